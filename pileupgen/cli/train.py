"""`pileupgen train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pileupgen.cli.ui.session import ConfigOption, DeviceOption, RunOption, SeedOption
from pileupgen.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pileupgen.calo.geometry import Grid
    from pileupgen.diffusion.release import ReleaseChoice
    from pileupgen.diffusion.settings import Settings
    from pileupgen.models.reconstruction import ReconstructionTest
    from pileupgen.training.reconstruction import Judge
    from pileupgen.training.run_training import TrainingSummary


def train(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    force: Annotated[bool, typer.Option("--force", help="Train anew, also where current.")] = False,
) -> None:
    """Train calibration, autoencoder, latent denoiser and density-ratio classifier.

    Interrupted training continues where the newest checkpoint stands when the same command is run
    again. Loss curves, figures and, where it is installed, TensorBoard's events go to <run>/logs.

    \b
    Examples:
      pileupgen train
      pileupgen train --config delphes_nonlocal --run runs/nonlocal
      torchrun --nproc_per_node 2 -m -- pileupgen train --device cuda
    """
    import shutil

    from pileupgen.cli.ui.console import (
        is_main_process,
        quiet_unless_main,
        say_current,
        say_next,
        say_read,
        say_wrote,
    )
    from pileupgen.cli.ui.library_log import warnings_on_console
    from pileupgen.cli.ui.session import choose_device, open_session, open_store
    from pileupgen.run import training_fingerprint

    quiet_unless_main()
    session = open_session(config, run, seed)
    directory = session.run
    first = f"pileupgen preprocess{session.arguments}"
    stores = {domain: open_store(directory.images(domain), first) for domain in ("mc", "data")}
    session.adopt()
    for store in stores.values():
        say_read(f"{store.path}  {len(store)} events, grid {store.grid.name} {store.grid.shape}")
    provenances = [store.provenance for store in stores.values()]
    made_from = training_fingerprint(session.config.to_dict(), provenances)
    follow_up = f"pileupgen translate{session.arguments}"
    if not force and directory.is_current(
        "train", made_from, [directory.model / "model_index.json"]
    ):
        say_current("train", directory.model)
        say_next(follow_up)
        return
    if force and is_main_process():
        shutil.rmtree(directory.checkpoints, ignore_errors=True)

    from pileupgen.cli.ui.training_view import live_stage
    from pileupgen.training.run_training import train_pipeline

    judge = _judge(stores["mc"].grid, session.config.seed)
    chosen = choose_device(device)
    with warnings_on_console():
        summary = train_pipeline(session.config, directory, chosen, live_stage, judge)
    if not is_main_process():
        return
    _show(summary)
    choice = _automatic_release(summary, session.config.translate)
    _draw(summary, choice, directory.logs)
    details = {
        "parameters": summary.parameters,
        "seconds": summary.seconds,
        "processes": summary.n_processes,
    }
    directory.finish("train", made_from, details)
    shutil.rmtree(directory.latents, ignore_errors=True)
    say_wrote(directory.model, "diffusers layout, safetensors, model card")
    say_wrote(directory.logs, "losses over steps and over t, reliability, release: JSON, PNG, PDF")
    say_next(follow_up)


def _judge(grid: Grid, seed: int) -> Judge:
    """The two-sample test of reconstructions, told on the console as soon as it is known."""
    from pileupgen.cli.ui.console import console, warn
    from pileupgen.compare.reconstruction import reconstruction_test

    def judge(
        domain: str,
        original: NDArray[np.float32],
        reconstructed: NDArray[np.float32],
        event_id: NDArray[np.int64],
    ) -> ReconstructionTest:
        test = reconstruction_test(grid, domain, original, reconstructed, event_id, seed)
        console.print(
            f"reconstruction of {test.n_events} held-out {domain} events: {test.in_words}",
            markup=False,
        )
        if test.is_limit:
            warn(
                f"The codec alone tells {domain} events from themselves; no denoiser undoes that. "
                "Train the autoencoder longer, give it more latent_channels, or set codec: cells."
            )
        return test

    return judge


def _automatic_release(summary: TrainingSummary, settings: Settings) -> ReleaseChoice | None:
    """What ``--t-release auto`` would take, told on the console; None if nothing is good enough."""
    from pileupgen.cli.ui.console import console

    if settings.release_by == "fidelity":
        # Known once events are translated, by --t-release auto or by a scan.
        return None
    try:
        choice = summary.release.choose(settings.tolerance, settings.release_by)
    except ConfigError as error:
        console.print(f"no automatic release: {error.message}", markup=False)
        return None
    console.print(f"--t-release auto: {choice.reason}", markup=False)
    return choice


def _draw(summary: TrainingSummary, choice: ReleaseChoice | None, folder: Path) -> None:
    from pileupgen.report.figures.release import release_figure
    from pileupgen.report.figures.reliability import reliability_figure
    from pileupgen.report.figures.style import write_figure
    from pileupgen.report.figures.training import denoising_figure, loss_figure
    from pileupgen.report.release_curve import ReleaseCurve

    write_figure(loss_figure(summary.histories), folder, "losses")
    if summary.denoising is not None:
        write_figure(denoising_figure(summary.denoising.to_dict()), folder, "denoising")
    write_figure(reliability_figure(summary.reliability), folder, "reliability")
    curve, t = ReleaseCurve.of(summary.release), None if choice is None else choice.t
    write_figure(release_figure(curve, t, "automatic release"), folder, "release")


def _show(summary: TrainingSummary) -> None:
    from rich.table import Table

    from pileupgen.cli.ui.console import console
    from pileupgen.cli.ui.training_view import clock

    table = Table(title=f"Trained on {summary.n_train[0]} mc and {summary.n_train[1]} data events")
    for column in ("network", "parameters", "steps", "loss", "held-out loss", "time"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name, history in summary.histories.items():
        last = (
            history[-1] if history else {"step": 0, "loss": float("nan"), "held_out": float("nan")}
        )
        table.add_row(
            name,
            f"{summary.parameters[name]:,}",
            f"{last['step']:.0f}",
            f"{last['loss']:.4f}",
            f"{last['held_out']:.4f}",
            clock(summary.seconds[name]),
        )
    console.print(table)
    release = summary.release
    low = Table(title=f"Separability on {release.n_mc} + {release.n_data} held-out events")
    for column in ("t", "AUC of ln r [68 %]", "ESS"):
        low.add_column(column, justify="right")
    for index in range(0, len(release.t), max(len(release.t) // 8, 1)):
        interval = f"[{release.auc_low[index]:.3f}, {release.auc_high[index]:.3f}]"
        low.add_row(
            str(release.t[index]),
            f"{release.auc[index]:.3f} {interval}",
            f"{release.ess[index]:.2f}",
        )
    console.print(low, markup=False)
