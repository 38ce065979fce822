"""`pileupgen translate`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pileupgen.cli.session import ConfigOption, DeviceOption, RunOption, SeedOption

if TYPE_CHECKING:
    from pileupgen.cli.session import Session
    from pileupgen.diffusion.pipeline import PileupTranslationPipeline
    from pileupgen.diffusion.settings import Settings
    from pileupgen.models.renewal import MarginalRenewal
    from pileupgen.samples.store import ImageStore


class ModeChoice(enum.StrEnum):
    """How to translate."""

    PARTIAL = "partial"
    INVERT = "invert"
    GENERATE = "generate"
    CALIBRATE = "calibrate"


class SplitChoice(enum.StrEnum):
    """Which events to translate."""

    TEST = "test"
    VALIDATION = "validation"
    TRAIN = "train"
    ALL = "all"


def translate(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    t_release: Annotated[
        str | None,
        typer.Option(
            "--t-release",
            help="Timestep of the release, or 'auto'. (default: the config's)",
            show_default=False,
        ),
    ] = None,
    w: Annotated[
        float | None,
        typer.Option(
            "--w", min=0.0, help="Guidance; 0 is off. (default: the config's)", show_default=False
        ),
    ] = None,
    mode: Annotated[
        ModeChoice | None,
        typer.Option("--mode", help="(default: the config's)", show_default=False),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=1,
            help="Network evaluations from the release to the clean end. (default: the config's)",
            show_default=False,
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            help="ancestral, ddim, dpmsolver++ or sde-dpmsolver++. (default: the config's)",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        SplitChoice, typer.Option("--split", help="Which MC events.")
    ] = SplitChoice.TEST,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            help="Image store of MC events. (default: the run's)",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="(default: <run>/translated/mc_to_data.h5)", show_default=False
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            min=1,
            help="Events held in memory; does not change results.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Translate anew, also where current.")
    ] = False,
) -> None:
    """Translate MC events into data-like ones: noise to t_release, switch the class, denoise.

    Every event keeps the number of its source event, its weight and its seed; its result depends
    on these and the model alone.

    \b
    Examples:
      pileupgen translate --t-release 300 --w 2.0
      pileupgen translate --t-release auto --w 0
      pileupgen translate --mode generate --w 1 --steps 30
      pileupgen translate --mode calibrate -o calibrated.h5
    """
    from pileupgen.cli.console import say_current, say_next, say_read, say_wrote
    from pileupgen.cli.session import choose_device, open_session, open_store
    from pileupgen.run import fingerprint

    session = open_session(
        config,
        run,
        None,
        translate={
            "t_release": _timestep(t_release),
            "w": w,
            "mode": mode.value if mode else None,
            "num_inference_steps": steps,
            "sampler": sampler,
            "batch_size": batch_size,
        },
    )
    directory = session.run
    trained = directory.details("train")
    session.adopt()
    store = open_store(source or directory.images("mc"), f"pileupgen preprocess{session.arguments}")
    target = output or directory.translated
    chosen = seed if seed is not None else session.config.seed
    options = session.config.to_dict()["translate"]
    options.pop("batch_size")
    made_from = fingerprint(
        [options, chosen, split.value, trained["made_from"], store.provenance, str(target)]
    )
    say_read(f"{store.path}  {len(store)} events")
    say_read(f"{directory.model}")
    record = f"translate-{fingerprint(str(target))}" if output else "translate"
    if not force and directory.is_current(record, made_from, [target]):
        say_current("translate", target)
        say_next(f"pileupgen validate{session.arguments}")
        return
    n = _run(session, store, target, chosen, split.value, choose_device(device))
    directory.finish(record, made_from, {"output": str(target), "n_events": n})
    say_wrote(target, f"{n} events")
    extra = f" --input {target}" if output else ""
    say_next(f"pileupgen validate{session.arguments}{extra}")


def _timestep(text: str | None) -> int | str | None:
    from pileupgen.errors import ConfigError

    if text is None or text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"--t-release takes a timestep or 'auto', not '{text}'.", "Try --t-release 300."
        ) from None


def _run(
    session: Session, store: ImageStore, target: Path, seed: int, split: str, device: str
) -> int:
    import json

    import numpy as np

    from pileupgen.calo.geometry import require_same_grid
    from pileupgen.cli.console import console, progress
    from pileupgen.diffusion.pipeline import PileupTranslationPipeline
    from pileupgen.diffusion.release import ReleaseScan
    from pileupgen.diffusion.settings import Settings
    from pileupgen.errors import RunError
    from pileupgen.run import versions
    from pileupgen.samples.store import create_store

    directory, options = session.run, session.config.translate
    pipeline = PileupTranslationPipeline.from_pretrained(directory.model)
    require_same_grid(
        store.grid, pipeline.geometry, str(store.path), f"the model {directory.model}"
    )
    for network in (pipeline.autoencoder, pipeline.denoiser, pipeline.ratio):
        network.to(device)
    if options.t_release == "auto":
        try:
            values = json.loads((directory.model / "release.json").read_text())
        except (OSError, ValueError) as error:
            raise RunError(
                f"No release scan in {directory.model}: {error}.", "Train anew."
            ) from error
        t_release, reason = ReleaseScan.from_dict(values).choose(options.auto_auc)
        console.print(f"[bold]release[/] {reason}", markup=True)
    else:
        t_release = options.t_release
    settings = Settings(
        options.mode,
        t_release,
        options.w,
        options.num_inference_steps,
        options.sampler,
        decode=options.decode,
    )
    pipeline.check(settings)
    renewal = None
    if options.renew_marginals and options.mode != "calibrate":
        renewal = _renewal(session, pipeline, settings, seed)
    rows = store.indices(split)
    provenance = {
        "source": store.provenance,
        "model": directory.details("train")["made_from"],
        "mode": settings.mode,
        "t_release": t_release,
        "w": settings.w,
        "num_inference_steps": settings.num_inference_steps,
        "sampler": settings.sampler,
        "decode": settings.decode,
        "renew_marginals": options.renew_marginals,
        "seed": seed,
        "split": split,
        "versions": versions("torch", "diffusers", "numpy"),
    }
    with (
        create_store(target, store.grid, "mc_to_data", provenance) as writer,
        progress("translate   ", len(rows)) as advance,
    ):
        for images in store.batches(rows, options.batch_size):
            translation = pipeline(
                images.energy, images.mu, images.event_id, seed, settings, renewal
            )
            n = len(images)
            writer.append(
                translation.energy,
                {
                    "mu": images.mu,
                    "event_id": images.event_id,
                    "weight": images.weight * translation.weight,
                    "split": images.columns["split"],
                    "source_event": images.event_id,
                    "seed": np.full(n, seed, dtype=np.int64),
                },
            )
            advance(n)
    return len(rows)


def _renewal(
    session: Session, pipeline: PileupTranslationPipeline, settings: Settings, seed: int
) -> MarginalRenewal:
    """The renewal for these settings, fitted on training events once and kept with the run."""
    import dataclasses

    import numpy as np

    from pileupgen.cli.console import progress
    from pileupgen.models.renewal import MarginalRenewal
    from pileupgen.run import fingerprint, folder_written_whole
    from pileupgen.samples.store import ImageStore

    n_events = session.config.translate.n_renewal_events
    key = fingerprint(
        [dataclasses.asdict(settings), n_events, seed, session.run.details("train")["made_from"]]
    )
    folder = session.run.path / "renewal" / key
    if (folder / "config.json").is_file():
        return MarginalRenewal.from_pretrained(folder)
    own = ImageStore(session.run.images("mc"))
    images = own.read(own.indices("train", n_events))
    with progress("renewal     ", len(images)) as advance:
        renewal = pipeline.fit_renewal(
            images.energy, images.mu, np.asarray(images.event_id), seed, settings, advance
        )
    with folder_written_whole(folder) as aside:
        renewal.save_pretrained(aside)
    return renewal
