"""`pileupgen translate`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pileupgen.cli.ui.farm_options import (
    ClusterOption,
    ExecutorOption,
    Farm,
    JobOption,
    SchedulerOption,
    WorkersOption,
)
from pileupgen.cli.ui.session import ConfigOption, DeviceOption, RunOption, SeedOption
from pileupgen.cli.ui.translation_options import (
    AfterOption,
    CorrectionOption,
    EtaOption,
    FreshNoiseOption,
    GuidanceOption,
    IntervalOption,
    ModeChoice,
    OutOfRangeOption,
    ReleaseByChoice,
    ReleaseChoice,
    ScheduleOption,
    TimestepsOption,
    parse_interval,
    parse_timestep,
    parse_timesteps,
)
from pileupgen.errors import ConfigError

if TYPE_CHECKING:
    from pileupgen.diffusion.shard import Shard


class DomainChoice(enum.StrEnum):
    """A domain."""

    MC = "mc"
    DATA = "data"


class SplitChoice(enum.StrEnum):
    """Which events to translate."""

    TEST = "test"
    VALIDATION = "validation"
    TRAIN = "train"
    ALL = "all"


_PRELOAD = ("pileupgen.diffusion.production",)
"""Modules that processes which translate load once for all."""


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
    timesteps: TimestepsOption = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            help="ancestral, ddim, dpmsolver++ or sde-dpmsolver++. (default: the config's)",
            show_default=False,
        ),
    ] = None,
    eta: EtaOption = None,
    fresh_noise: FreshNoiseOption = None,
    out_of_range: OutOfRangeOption = None,
    guidance: GuidanceOption = None,
    guidance_interval: IntervalOption = None,
    guidance_schedule: ScheduleOption = None,
    release: Annotated[
        ReleaseChoice | None,
        typer.Option(
            "--release",
            help="All events at t_release, or each at the first time up to it where its own "
            "|ln r| is within --tolerance. (default: the config's)",
            show_default=False,
        ),
    ] = None,
    release_by: Annotated[
        ReleaseByChoice | None,
        typer.Option(
            "--release-by",
            help="What --t-release auto judges by. (default: the config's)",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            help="For auto: source correlation of blocks (0.9) and ess (0.95) at least, auc (0.55) "
            "and spread (0.2) at most; per-event: "
            "|ln r| (0.2) at most.",
            show_default=False,
        ),
    ] = None,
    calibrate_after: AfterOption = None,
    correction: CorrectionOption = None,
    weight_limit: Annotated[
        float | None,
        typer.Option(
            "--weight-limit",
            help="Weights are clipped to e^∓ of this. (default: the config's)",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws",
            min=1,
            help="Translations of each event; draw 0 is the plain one. (default: the config's)",
            show_default=False,
        ),
    ] = None,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(
            "--ensemble",
            metavar="RUN",
            help="Another trained run, a member of an ensemble beside this one; may be repeated. "
            "Members' configs differ in training.seed: the splits, from seed, stay the same.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[SplitChoice, typer.Option("--split", help="Which events.")] = SplitChoice.TEST,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Only the I-th of N parts, I from 1; 'pileupgen merge' joins them.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        DomainChoice,
        typer.Option("--source", help="What the events are: encoded and inverted as."),
    ] = DomainChoice.MC,
    target: Annotated[
        DomainChoice,
        typer.Option("--target", help="What they become: denoised and decoded as."),
    ] = DomainChoice.DATA,
    input_store: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            help="Image store of events of the source. (default: the run's)",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="(default: <run>/translated/<source>_to_<target>.h5)",
            show_default=False,
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
    workers: WorkersOption = 1,
    executor: ExecutorOption = None,
    scheduler: SchedulerOption = None,
    cluster: ClusterOption = None,
    job: JobOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Translate anew, also where current.")
    ] = False,
) -> None:
    """Translate MC events into data-like ones: noise to t_release, switch the class, denoise.

    Every event keeps the number of its source event, its weight and its seed; its result depends
    on these and the model alone. Interrupted, it continues when given again.
    Without any of the options on how to translate it takes what 'pileupgen scan' recommends for the
    run, if that was run, else the config.
    With --source and --target both data, or both mc, it is a control: nothing should change, and
    'pileupgen validate --control' shows what does.

    \b
    Examples:
      pileupgen translate --t-release 300 --w 2.0
      pileupgen translate --t-release auto --release-by ess --tolerance 0.9
      pileupgen translate --mode invert --t-release 995 --w 0
      pileupgen translate --timesteps 300,200,100,40,10
      pileupgen translate --mode calibrate -o calibrated.h5
      pileupgen translate --mode transport -o transported.h5
      pileupgen translate --guidance ratio --w 1 --guidance-interval 50,400
      pileupgen translate --split all --shard 3/8
      pileupgen translate --split all --cluster slurm --workers 20 --job queue=short
      pileupgen translate --source data --target data
      pileupgen translate --draws 5 --ensemble runs/demo-b --ensemble runs/demo-c -o spread.h5
    """
    from pileupgen.cli.translation_job import Request, run_job
    from pileupgen.cli.ui.session import open_session
    from pileupgen.diffusion.direction import Direction

    explicit = parse_timesteps(timesteps, steps)
    release_time = parse_timestep(t_release)
    if explicit and release_time is None and mode is not ModeChoice.GENERATE:
        release_time = explicit[0]
    overrides: dict[str, Any] = {
        "t_release": release_time,
        "w": w,
        "mode": mode.value if mode else None,
        "num_inference_steps": steps,
        "timesteps": explicit,
        "sampler": sampler,
        "eta": eta,
        "fresh_noise": fresh_noise,
        "out_of_range": out_of_range.value if out_of_range else None,
        "guidance": guidance.value if guidance else None,
        "correction": correction.value if correction else None,
        "calibrate_after": calibrate_after,
        "guidance_interval": parse_interval(guidance_interval),
        "guidance_schedule": guidance_schedule.value if guidance_schedule else None,
        "release": release.value if release else None,
        "release_by": release_by.value if release_by else None,
        "tolerance": tolerance,
        "log_weight_limit": weight_limit,
        "n_draws": draws,
        "batch_size": batch_size,
    }
    session = open_session(config, run, None, translate=overrides)
    if steps is not None and session.config.translate.timesteps is not None:
        raise ConfigError(
            "The config has translate.timesteps, which --steps does not go with.",
            "Give --timesteps, or take them out of the config.",
        )
    farm = Farm(executor, scheduler, cluster, workers, job, _PRELOAD, session.run.logs)
    request = Request(
        given=overrides,
        seed=session.config.seed if seed is None else seed,
        split=split.value,
        shard=_parse_shard(shard),
        direction=Direction(source.value, target.value),
        source=input_store,
        output=output,
        ensemble=tuple(ensemble or ()),
        device=device,
        force=force,
        farm=farm,
    )
    with farm:
        run_job(session, request)


def _parse_shard(text: str | None) -> Shard | None:
    if text is None:
        return None
    from pileupgen.diffusion.shard import Shard

    return Shard.parse(text)
