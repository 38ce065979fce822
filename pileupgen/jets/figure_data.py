"""The figure of `pileupgen demo jetnet`: compute, draw, write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileupgen.progress import Advance, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pileupgen.diffusion.direction import Domain
    from pileupgen.diffusion.paths import DenoisingPath
    from pileupgen.diffusion.pipeline import TranslationPipeline
    from pileupgen.diffusion.settings import Settings
    from pileupgen.jets.emergence import PathFigure
    from pileupgen.run import RunDirectory
    from pileupgen.samples.store import Images

CLASSES = ("top", "W")
DOMAINS: tuple[Domain, ...] = ("mc", "data")
FIGURED = ("mass", "tau32")
"""Variables that are drawn."""
STRIDE = 10
"""Timesteps between the rows of the heat map."""


@dataclass(frozen=True)
class FollowedClass:
    """One class followed through the diffusion."""

    images: Images
    """Real jets that no stage was trained on."""
    latents: NDArray[np.float32]
    noised: NDArray[np.float32]
    """Their scores, and these noised to T − 1. Shape (N, F)."""
    path: DenoisingPath
    """Pure noise denoised as this class."""
    emulated: NDArray[np.float32]
    switched: NDArray[np.float32]
    """Variables of the path's jets, and of the other class' jets translated to this one. Shape
    (N, F)."""
    switched_latents: NDArray[np.float32]
    """Shape (N, F)."""


def n_steps(run: RunDirectory) -> int:
    """Total that ``advance`` of :func:`compute` counts to."""
    from pileupgen.diffusion.paths import PathFinder
    from pileupgen.diffusion.pipeline import TranslationPipeline

    pipeline = TranslationPipeline.load(run.model)
    return 2 * len(PathFinder(pipeline, STRIDE).timesteps(pipeline.num_train_timesteps - 1))


def compute(
    run: RunDirectory,
    n_jets: int,
    settings: Settings,
    seed: int,
    advance: Advance = silent,
) -> dict[str, PathFigure]:
    """Follow jets of both classes through a trained run's diffusion; one figure a variable.

    Parameters
    ----------
    run : RunDirectory
        Preprocessed and trained on tables of jet variables.
    n_jets : int
        Held-out jets of each class, at most.
    """
    from pileupgen.diffusion.pipeline import TranslationPipeline
    from pileupgen.samples.store import ImageStore

    pipeline = TranslationPipeline.load(run.model)
    stores = [ImageStore(run.images(domain)) for domain in ("mc", "data")]
    samples = [store.read(store.indices("test", n_jets)) for store in stores]
    followed = [_follow(pipeline, samples, label, settings, seed, advance) for label in (0, 1)]
    grid = pipeline.geometry
    chosen = [name for name in FIGURED if name in grid.layers] or [grid.layers[0]]
    return {
        name: _figure(followed, grid, grid.layers.index(name), settings.release_timestep)
        for name in chosen
    }


def _follow(
    pipeline: TranslationPipeline,
    samples: list[Images],
    label: int,
    settings: Settings,
    seed: int,
    advance: Advance,
) -> FollowedClass:
    from pileupgen.diffusion.paths import PathFinder

    finder = PathFinder(pipeline, STRIDE)
    own, other = samples[label], samples[1 - label]
    latents = finder.encode(own.energy, own.mu, label, own.event_id, seed)
    last = pipeline.num_train_timesteps - 1
    noised = finder.noised(latents, last, own.event_id, 2 * seed + label)
    path = finder.generate(label, own.mu, own.event_id, seed, advance)
    switched = pipeline(
        other.energy,
        other.mu,
        other.event_id,
        seed,
        settings,
        source=DOMAINS[1 - label],
        target=DOMAINS[label],
    ).energy
    scores = finder.encode(switched, other.mu, label, other.event_id, seed)
    return FollowedClass(
        images=own,
        latents=latents.cpu().numpy()[..., 0, 0],
        noised=noised.cpu().numpy()[..., 0, 0],
        path=path,
        emulated=finder.decode(path.clean, label, own.mu)[..., 0, 0],
        switched=switched[..., 0, 0],
        switched_latents=scores.cpu().numpy()[..., 0, 0],
    )


def _figure(followed: list[FollowedClass], grid: Any, feature: int, t_release: int) -> PathFigure:
    import numpy as np

    from pileupgen.jets.emergence import PathFigure, make_pane

    def column(values: Any) -> Any:
        return np.asarray(values, dtype=np.float64)[:, feature]

    panes, marks = [], []
    for name, own, other in zip(CLASSES, followed, followed[::-1], strict=True):
        real, source = (column(each.images.energy[..., 0, 0]) for each in (own, other))
        clean = own.path.x_t[-1, ..., 0, 0]
        panes.append(
            make_pane(
                f"{name} jets",
                own.path.t,
                own.path.x_t[..., feature, 0, 0].astype(np.float64),
                column(own.noised),
                (column(own.latents), column(clean), column(own.switched_latents)),
                (real, column(own.emulated), column(own.switched), source),
            )
        )
        marks.append(np.stack([real, column(own.latents)], axis=1))
    score_of = np.sort(np.concatenate(marks), axis=0)
    return PathFigure(
        grid.layers[feature],
        (grid.units or [""] * grid.n_layers)[feature],
        panes,
        score_of,
        t_release,
    )


def draw(figures: dict[str, PathFigure], folder: Path) -> list[Path]:
    """Draw and write every figure as PNG and PDF."""
    from pileupgen.jets.figure import denoising_figure
    from pileupgen.report.figures.style import write_figure

    paths = []
    for name, contents in figures.items():
        paths += write_figure(denoising_figure(contents), folder, f"denoising_{name}")
    return paths
