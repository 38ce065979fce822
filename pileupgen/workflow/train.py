"""Training a run, its loss curves and figures."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileupgen.arrays import Ints
from pileupgen.errors import ConfigError
from pileupgen.progress import is_main_process
from pileupgen.run import training_fingerprint
from pileupgen.workflow.model import choose_device, read_release_scan
from pileupgen.workflow.run import Run

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from pileupgen.diffusion.release import ReleaseChoice, ReleaseScan
    from pileupgen.models.reconstruction import ReconstructionTest
    from pileupgen.training.reconstruction import Judge
    from pileupgen.training.run_training import TrainingSummary

NETWORKS = ("autoencoder", "denoiser", "ratio")


@dataclass(frozen=True)
class Trained:
    """A trained run."""

    run: Run
    summary: TrainingSummary | None
    """What this training found; None where the model was current already."""

    @property
    def is_new(self) -> bool:
        """Whether it was trained by this call."""
        return self.summary is not None

    @property
    def losses(self) -> dict[str, list[dict[str, float]]]:
        """Loss curve of each network that was trained: rows of step, loss and held-out loss."""
        logs = self.run.directory.logs
        paths = {name: logs / f"{name}.jsonl" for name in NETWORKS}
        return {
            name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            for name, path in paths.items()
            if path.is_file()
        }

    @property
    def release(self) -> ReleaseScan:
        """Separability of the domains over the diffusion time, on held-out events."""
        return read_release_scan(self.run.directory)

    def automatic_release(self) -> ReleaseChoice:
        """Choose the release that ``t_release="auto"`` takes by the ratio classifier.

        Raises
        ------
        ConfigError
            If the domains stay too separable at all times, or the release is chosen by the
            fidelity of translated events, which a translation or a scan measures.
        """
        settings = self.run.config.translate
        if settings.release_by == "fidelity":
            raise ConfigError(
                "An automatic release by fidelity is known once events are translated.",
                "Translate with t_release auto, scan, or set release_by to auc, ess or spread.",
            )
        return self.release.choose(settings.tolerance, settings.release_by)

    def figures(self) -> dict[str, Figure]:
        """Draw losses, denoising errors over t, reliability of ln r and separability over t."""
        from pileupgen.models.networks.ratio_calibration import Reliability
        from pileupgen.report.figures.release import release_figure
        from pileupgen.report.figures.reliability import reliability_figure
        from pileupgen.report.figures.training import denoising_figure, loss_figure

        logs = self.run.directory.logs
        try:
            t: int | None = self.automatic_release().t
        except ConfigError:
            t = None
        return {
            "losses": loss_figure(self.losses),
            "denoising": denoising_figure(_read(logs / "denoising.json")),
            "reliability": reliability_figure(Reliability(**_read(logs / "reliability.json"))),
            "release": release_figure(self.release, t, "automatic release"),
        }


def train(run: Run, *, device: str | None = None, force: bool = False) -> Trained:
    """Train calibration, autoencoder, latent denoiser and density-ratio classifier.

    Interrupted training continues where the newest checkpoint stands.

    Parameters
    ----------
    run : Run
        With preprocessed samples.
    device : str, optional
        The best there is if not given.
    force : bool
        Anew, also where the model is current.

    Raises
    ------
    MissingInputError
        If the samples are not preprocessed.
    TrainingError
        If a sample is too small, not finite, or a loss diverges.
    """
    directory, listener = run.directory, run.listener
    stores = {domain: run.store(domain) for domain in ("mc", "data")}
    run.adopt()
    for store in stores.values():
        what = f"{len(store)} events, grid {store.grid.name} {store.grid.shape}"
        listener.read(store.path, what)
    provenances = [store.provenance for store in stores.values()]
    made_from = training_fingerprint(run.config.to_dict(), provenances)
    outputs = [directory.model / "model_index.json"]
    if not force and directory.is_current("train", made_from, outputs):
        listener.current("train", directory.model)
        return Trained(run, None)
    if force and is_main_process():
        shutil.rmtree(directory.checkpoints, ignore_errors=True)

    from pileupgen.training.run_training import train_pipeline

    judge = _judge(run, stores["mc"].grid)
    summary = train_pipeline(run.config, directory, choose_device(device), listener.stage, judge)
    trained = Trained(run, summary)
    if not is_main_process():
        return trained
    _tell_release(trained)
    _write_figures(trained)
    rate = {
        name: {"seconds": summary.seconds.get(name), "n_steps": history[-1]["step"]}
        for name, history in summary.histories.items()
        if history
    }
    details = {
        "parameters": summary.parameters,
        "seconds": summary.seconds,
        "processes": summary.n_processes,
        "rate": rate,
    }
    directory.finish("train", made_from, details)
    shutil.rmtree(directory.latents, ignore_errors=True)
    listener.wrote(directory.model, "diffusers layout, safetensors, model card")
    listener.wrote(
        directory.logs, "losses over steps and over t, reliability, release: JSON, PNG, PDF"
    )
    return trained


def _judge(run: Run, grid: Any) -> Judge:
    """The two-sample test of reconstructions, told as soon as it is known."""
    from pileupgen.compare.reconstruction import reconstruction_test

    def judge(
        domain: str,
        original: NDArray[np.float32],
        reconstructed: NDArray[np.float32],
        event_id: Ints,
    ) -> ReconstructionTest:
        seed = run.config.seed
        test = reconstruction_test(grid, domain, original, reconstructed, event_id, seed)
        run.listener.tell(
            "reconstruction", f"of {test.n_events} held-out {domain} events: {test.in_words}"
        )
        if test.is_limit:
            run.listener.warn(
                f"Events of {domain} reconstructed by the codec can be told from the events "
                "themselves, which no denoiser can correct. "
                "Train the autoencoder longer, give it more latent_channels, or set codec: cells."
            )
        return test

    return judge


def _tell_release(trained: Trained) -> None:
    """Tell what an automatic release would be, or why there is none."""
    if trained.run.config.translate.release_by == "fidelity":
        return
    try:
        text = f"--t-release auto: {trained.automatic_release().reason}"
    except ConfigError as error:
        text = f"no automatic release: {error.message}"
    trained.run.listener.tell("release", text)


def _write_figures(trained: Trained) -> None:
    from pileupgen.report.figures.style import write_figure

    for name, figure in trained.figures().items():
        write_figure(figure, trained.run.directory.logs, name)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
