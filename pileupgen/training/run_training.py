"""Training of a pipeline on two image stores."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from numpy.typing import NDArray
from torch import Tensor, nn

from pileupgen.arrays import Floats
from pileupgen.calo.geometry import Grid, require_same_grid
from pileupgen.config import Config
from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.release import ReleaseScan
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.files import folder_written_whole, write_whole
from pileupgen.models.calibration.space import CellSpace
from pileupgen.models.codec import Codec, LatentModel
from pileupgen.models.event_check import EventCheck, totals
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.layers import standardise_conditions
from pileupgen.models.networks.ratio_calibration import Reliability
from pileupgen.progress import Advance
from pileupgen.run import RunDirectory, determining, training_fingerprint
from pileupgen.samples.store import ImageStore
from pileupgen.training.checkpoints import Making
from pileupgen.training.data import (
    HeldOut,
    ScoreSample,
    Training,
    require_events,
    require_finite,
    warn_of_few,
)
from pileupgen.training.denoising_curve import DenoisingCurve, denoising_curve
from pileupgen.training.encoded import encoded_events
from pileupgen.training.loop import History, Stage, train_stage
from pileupgen.training.model_card import model_card
from pileupgen.training.networks import new_autoencoder, new_denoiser, new_ratio, new_space
from pileupgen.training.objectives import Denoising, DensityRatio, Objective, Reconstruction
from pileupgen.training.reconstruction import Judge, judge_reconstruction
from pileupgen.training.release_scan import calibrate_and_scan
from pileupgen.training.step import new_accelerator
from pileupgen.training.symmetries import augmentation_of, is_mirror

StageBar = Callable[[str, int], AbstractContextManager[Advance]]
"""Opens a progress bar for a stage with a given number of steps."""


@dataclass(frozen=True)
class TrainingSummary:
    """What training found."""

    histories: dict[str, History]
    """Loss curve of each network."""
    parameters: dict[str, int]
    """Parameter count of each network."""
    release: ReleaseScan
    reliability: Reliability
    """Reliability of the calibrated ratio."""
    n_train: tuple[int, int]
    """Training events of mc and data."""
    denoising: DenoisingCurve | None
    """Errors over t on held-out events; in the first process only."""
    seconds: dict[str, float]
    """Wall time of the calibration and of each network's steps, over all resumes; that of encoding
    latents beforehand is the denoiser's."""
    n_processes: int
    """Processes that trained together."""


def train_pipeline(
    config: Config, run: RunDirectory, device: str, bar: StageBar, judge: Judge | None = None
) -> TrainingSummary:
    """Fit the calibration, train the networks, scan the release, save the pipeline.

    The lossless codec has nothing to train. Every stage continues from its newest checkpoint in
    ``run.checkpoints``.

    Parameters
    ----------
    run : RunDirectory
        Holds the image stores; receives ``model/``, ``checkpoints/`` and ``logs/``.
    judge : callable
        Two-sample test of reconstructed validation events, asked before the denoiser is trained.

    Raises
    ------
    TrainingError
        If a sample is too small, not finite, or a loss diverges.
    GeometryError
        If the stores have different grids.
    OutputError
        If something cannot be written.
    """
    stores = (ImageStore(run.images("mc")), ImageStore(run.images("data")))
    grid = stores[0].grid
    require_same_grid(stores[1].grid, grid, str(stores[1].path), str(stores[0].path))
    for store in stores:
        for split in ("train", "validation"):
            require_events(store, split)
            warn_of_few(store, split)
    accelerator = new_accelerator(device, config.training.mixed_precision)
    seed = config.training_seed
    set_seed(seed)
    making = Making(
        training_fingerprint(config.to_dict(), [store.provenance for store in stores]),
        {"config": determining(config.to_dict()), "grid": grid.to_dict()},
    )
    mirror, augmentation = is_mirror(stores, grid), augmentation_of(config, stores, grid)
    begun = time.perf_counter()
    calibration = _calibration(config, stores, grid, mirror, bar)
    seconds: dict[str, float] = {"calibration": time.perf_counter() - begun}
    sample = ScoreSample(stores, calibration, "train", config.calibration.before)
    held_out = ScoreSample(stores, calibration, "validation", config.calibration.before)
    events: tuple[Training, HeldOut] = (sample, held_out)
    histories: dict[str, History] = {}

    def fit(network: nn.Module, objective: Objective, steps: int, spent: float = 0.0) -> None:
        stage = Stage(
            network,
            objective,
            *events,
            steps,
            augmentation,
            run.checkpoints / objective.name,
            run.logs / f"{objective.name}.jsonl",
            making,
            spent,
        )
        with bar(objective.name, steps) as advance:
            trained = train_stage(stage, config.training, seed, accelerator, advance)
        histories[objective.name], seconds[objective.name] = trained.history, trained.seconds

    mus = torch.cat(
        [torch.from_numpy(store.columns["mu"][store.indices("train")]) for store in stores]
    )
    autoencoder = new_autoencoder(config, grid, calibration.n_channels)
    standardise_conditions(autoencoder, mus)
    if isinstance(autoencoder, Autoencoder):
        block = (_divisor(grid.n_eta, 5), _divisor(grid.n_phi, 6))
        reconstruction = Reconstruction(
            autoencoder.latent_shape, config.autoencoder.latent_noise, block
        )
        fit(autoencoder, reconstruction, config.autoencoder.steps)
    tests = []
    is_learned = isinstance(autoencoder, Autoencoder)
    if judge is not None and is_learned and accelerator.is_main_process:
        tests = judge_reconstruction(
            Codec(calibration, autoencoder.to("cpu")),
            stores,
            judge,
            seed,
            config.translate.decode == "sample",
            run.logs / "reconstruction.json",
        )
    autoencoder.to(accelerator.device).requires_grad_(False)

    scheduler = make_scheduler(
        config.schedule.num_train_timesteps,
        config.schedule.power,
        config.schedule.s,
        config.schedule.shift,
    )
    begun = time.perf_counter()
    events = encoded_events(
        config,
        run.latents,
        stores,
        (sample, held_out),
        Codec(calibration, autoencoder),
        augmentation,
        accelerator,
        bar,
    )
    encoding = time.perf_counter() - begun
    denoiser = new_denoiser(config.denoiser, autoencoder, mirror)
    standardise_conditions(denoiser, mus)
    latents = _latents(sample, autoencoder, seed, accelerator.device)
    denoiser.field.fit(latents, mirror_eta=mirror and autoencoder.field_patch == autoencoder.patch)
    fit(
        denoiser,
        Denoising(
            autoencoder,
            scheduler,
            config.denoiser.label_dropout,
            config.denoiser.self_conditioning,
            config.denoiser.prediction_type,
            loss_weighting=config.denoiser.loss_weighting,
            coarse_dropout=config.denoiser.coarse_dropout if denoiser.has_coarse else None,
            focus=config.denoiser.focus,
        ),
        config.denoiser.steps,
        encoding,
    )
    curve = None
    if accelerator.is_main_process:
        curve = denoising_curve(
            denoiser, autoencoder, scheduler, held_out, latents, seed, accelerator.device
        )
        write_whole(run.logs / "denoising.json", json.dumps(curve.to_dict(), indent=2))
    ratio = new_ratio(config.ratio, autoencoder)
    standardise_conditions(ratio, mus)
    ratio.field.load_state_dict(denoiser.field.state_dict())
    fit(ratio, DensityRatio(autoencoder, scheduler), config.ratio.steps)

    networks: dict[str, Any] = {"autoencoder": autoencoder, "denoiser": denoiser, "ratio": ratio}
    for network in networks.values():
        network.to("cpu")
    pipeline = PileupTranslationPipeline(
        calibration,
        autoencoder,
        denoiser,
        ratio,
        scheduler,
        grid.to_dict(),
        config.calibration.before,
        _event_check(stores, grid),
    )
    release, reliability = calibrate_and_scan(pipeline, held_out, seed)
    parameters = {
        name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()
    }
    if accelerator.is_main_process:
        card = model_card(
            config.to_dict(),
            stores,
            grid,
            parameters,
            histories,
            release,
            [test.to_dict() for test in tests],
            curve.to_dict() if curve else None,
            seconds,
        )
        _save(pipeline, release, card, run)
        write_whole(run.logs / "reliability.json", json.dumps(reliability.to_dict(), indent=2))
    accelerator.wait_for_everyone()
    return TrainingSummary(
        histories,
        parameters,
        release,
        reliability,
        sample.n_events,
        curve,
        seconds,
        accelerator.num_processes,
    )


def _calibration(
    config: Config,
    stores: tuple[ImageStore, ImageStore],
    grid: Grid,
    mirror: bool,
    bar: StageBar,
) -> CellSpace:
    calibration = new_space(config, grid, mirror)
    with bar("calibration", 2) as advance:
        energies: list[NDArray[np.float32]] = []
        mus: list[NDArray[np.float32]] = []
        weights: list[Floats] = []
        for store in stores:
            images = store.read(store.indices("train"))
            require_finite(images.energy, images.event_id, str(store.path))
            energies.append(images.energy)
            mus.append(images.mu)
            weights.append(images.weight)
        advance(1)
        if config.calibration.shared:
            # Each domain counts by its number of events, whatever its weights add up to.
            weights = [np.concatenate([weight / weight.mean() for weight in weights])] * 2
            energies, mus = [np.concatenate(energies)] * 2, [np.concatenate(mus)] * 2
        is_weighted = any(np.ptp(weight) > 0 for weight in weights)
        calibration.fit(energies, mus, weights if is_weighted else None)
        advance(1)
    return calibration


@torch.no_grad()
def _event_check(stores: tuple[ImageStore, ImageStore], grid: Grid) -> EventCheck:
    """Distance of events from those of training; held-out ones decide which are flagged."""
    check, transverse = EventCheck(*grid.shape), torch.from_numpy(grid.transverse_shares)
    found, mus, weights = [], [], []
    for store in stores:
        rows = np.sort(np.concatenate([store.indices(name) for name in ("train", "validation")]))
        parts = [
            (totals(torch.from_numpy(images.energy), transverse), images.mu, images.weight)
            for images in store.batches(rows)
        ]
        found.append(torch.cat([part for part, _, _ in parts]))
        mus.append(np.concatenate([mu for _, mu, _ in parts]))
        weights.append(np.concatenate([weight for _, _, weight in parts]))
    check.fit(found, mus, grid.transverse_shares, weights)
    return check


@torch.no_grad()
def _latents(
    sample: ScoreSample, autoencoder: LatentModel, seed: int, device: torch.device
) -> list[Tensor]:
    batch = sample.in_order(max(sample.n_events), seed)
    parts = []
    for begin in range(0, len(batch), 256):
        rows = slice(begin, begin + 256)
        latents = autoencoder.encode(
            batch.scores[rows].to(device), batch.label[rows].to(device), batch.mu[rows].to(device)
        )
        parts.append(latents.cpu())
    joined = torch.cat(parts)
    return [joined[batch.label == domain] for domain in (0, 1)]


def _save(
    pipeline: PileupTranslationPipeline, release: ReleaseScan, card: str, run: RunDirectory
) -> None:
    hint = "Free space and repeat 'pileupgen train': it continues at the end."
    with folder_written_whole(run.model, hint) as aside:
        pipeline.save_pretrained(aside)
        write_whole(aside / "release.json", json.dumps(release.to_dict(), indent=2))
        write_whole(aside / "README.md", card)


def _divisor(n: int, at_most: int) -> int:
    return next(d for d in range(at_most, 0, -1) if n % d == 0)
