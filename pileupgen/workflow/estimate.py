"""What a stage would do, and roughly how long it may take, by rates that earlier runs left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileupgen.errors import PileupgenError
from pileupgen.run import RunDirectory
from pileupgen.workflow.run import Run

if TYPE_CHECKING:
    from pileupgen.samples.cards import DataCard
    from pileupgen.workflow.translate import Request

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Duration:
    """Time that a step may take."""

    seconds: float | None
    """Time in seconds; None where nothing is known."""
    basis: str
    """Origin of the number, or why there is none."""


@dataclass(frozen=True)
class PlannedStep:
    """Something that would be done."""

    what: str
    """Description."""
    estimate: Duration | None = None
    """Time that it may take; None where that is negligible, or nothing is to be done."""


@dataclass(frozen=True)
class Plan:
    """What a stage would do."""

    stage: str
    steps: tuple[PlannedStep, ...]

    @property
    def seconds(self) -> float | None:
        """Seconds of all steps; None where that of any step is not known.

        >>> Plan("train", (PlannedStep("a", Duration(2.0, "")), PlannedStep("b"))).seconds
        2.0
        >>> Plan("train", (PlannedStep("a", Duration(None, "")),)).seconds is None
        True
        """
        parts = [step.estimate.seconds for step in self.steps if step.estimate is not None]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None


def plan_preprocess(run: Run) -> Plan:
    """Plan the preprocessing of both domains.

    Raises
    ------
    CardError
        If a card is malformed or contradicts its files.
    InputError
        If a file is missing.
    """
    from pileupgen.workflow.preprocess import DOMAINS, common_suppression, find_card

    cards: dict[str, DataCard] = {domain: find_card(run, domain) for domain in DOMAINS}
    limit = common_suppression(run, cards)
    steps: list[PlannedStep] = []
    for domain in DOMAINS:
        steps += _domain_steps(run, domain, cards[domain], limit)
    return Plan("preprocess", tuple(steps))


def _domain_steps(
    run: Run, domain: str, card: DataCard, zero_suppression: float
) -> Iterator[PlannedStep]:
    from pileupgen.run import fingerprint
    from pileupgen.workflow.generated import is_current, n_units
    from pileupgen.workflow.preprocess import (
        SampleFiles,
        domain_inputs,
        find_grid,
        sample_path,
        sample_spec,
    )

    settings, store = run.config.preprocess, run.directory.images(domain)
    grid = find_grid(card, settings.geometry)
    if card.generate is not None:
        spec = sample_spec(run, card)
        path, n_events = sample_path(run, spec), spec.n_events
        if not is_current(spec, path):
            yield PlannedStep(
                f"simulate {n_events:,} events of card '{card.name}' to {path}",
                _estimate(run, "simulate_*", n_units(spec), lambda rate: float(rate["n_units"])),
            )
        source = SampleFiles(card, [path], spec.fingerprint())
    else:
        source = SampleFiles(card, card.input_files(), "")
        with closing(card.open(source.files)) as reader:
            n_events = min(reader.estimate_events(), settings.max_events or 1 << 62)
    if run.directory.is_current(
        f"preprocess_{domain}",
        fingerprint(domain_inputs(run, card, source, grid, zero_suppression)),
        [store],
    ):
        yield PlannedStep(f"nothing for {domain}: inputs unchanged, {store} is current")
        return
    yield PlannedStep(
        f"draw about {n_events:,} events of {domain} on grid {grid.name} {grid.shape} to {store}",
        _estimate(
            run,
            "preprocess_*",
            n_events,
            lambda rate: float(rate["n_events"]) / float(rate["n_workers"]),
        ),
    )


def plan_train(run: Run) -> Plan:
    """Plan the training of a run whose samples are preprocessed.

    Raises
    ------
    MissingInputError
        If they are not.
    """
    from pileupgen.run import training_fingerprint

    stores = [run.store(domain) for domain in ("mc", "data")]
    made_from = training_fingerprint(run.config.to_dict(), [store.provenance for store in stores])
    model = run.directory.model
    if run.directory.is_current("train", made_from, [model / "model_index.json"]):
        return Plan("train", (PlannedStep(f"nothing: inputs unchanged, {model} is current"),))
    config = run.config
    n_train = [len(store.indices("train")) for store in stores]
    batch = config.training.batch_size
    networks = {"denoiser": config.denoiser.steps, "ratio": config.ratio.steps}
    if config.codec == "latent":
        networks = {"autoencoder": config.autoencoder.steps, **networks}
    steps = [
        PlannedStep(f"fit the calibration on {n_train[0]:,} mc and {n_train[1]:,} data events")
    ]
    steps += [
        PlannedStep(
            f"train the {name}: {n:,} steps of {batch} events",
            _training_estimate(run, name, n),
        )
        for name, n in networks.items()
    ]
    return Plan("train", (*steps, PlannedStep(f"write the model to {model}")))


def plan_translate(run: Run, request: Request, given: Mapping[str, Any]) -> Plan:
    """Plan a translation with a trained run.

    Raises
    ------
    ConfigError
        If a setting does not fit.
    RunError
        If there is no trained model.
    """
    from pileupgen.workflow.model import model_identity, read_release_scan
    from pileupgen.workflow.run import open_store
    from pileupgen.workflow.student import student_for
    from pileupgen.workflow.translate import chosen_settings, configured

    run = configured(run, given)
    settings = chosen_settings(run, given)
    steps = []
    by = settings.release_by
    if settings.t_release == "auto" and by == "fidelity":
        last = run.config.schedule.num_train_timesteps - 1
        settings = settings.released_at(last)
        steps.append(
            PlannedStep(f"choose the release, {last} at most, by translated validation events")
        )
    elif settings.t_release == "auto" and by != "fidelity":
        scan = read_release_scan(run.directory)
        settings = settings.released_at(scan.choose(settings.tolerance, by).t)
    # The model fixes how many timesteps there are.
    settings.check(run.config.schedule.num_train_timesteps)
    store = open_store(request.source, f"pileupgen preprocess{run.arguments}")
    rows = store.indices(request.split)
    if request.shard is not None:
        rows = request.shard.rows(rows)
    n_copies = settings.n_draws * (1 + len(request.ensemble))
    model = model_identity(run.directory)
    student = student_for(run.directory, model, settings, request.direction, run.listener)
    n_evaluations = settings.n_evaluations if student is None else 1
    n_passes = len(rows) * n_copies * max(n_evaluations, 1)
    if settings.corrects:
        steps.append(
            PlannedStep(
                f"fit or take the correction on {settings.n_correction_events:,} training events"
            )
        )
    copies = "" if n_copies == 1 else f" × {n_copies}"
    steps.append(
        PlannedStep(
            f"translate {len(rows):,}{copies} events of {store.path} to {request.target}: "
            f"{settings.describe()}, {n_evaluations} network evaluations an event",
            _estimate(
                run,
                "translate*",
                n_passes,
                lambda rate: float(rate["n_events"]) * max(int(rate["n_evaluations"]), 1),
            ),
        )
    )
    return Plan("translate", tuple(steps))


def _estimate(
    run: Run, records: str, n_units: float, units_of: Callable[[Record], float]
) -> Duration:
    """Estimate by the latest rate that this run recorded, else one beside it."""
    for directory in _neighbours(run):
        for record in _records(directory, records):
            with suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
                rate = record["rate"]
                seconds = float(rate["seconds"]) / units_of(rate) * n_units
                return Duration(seconds, f"by the rate that {directory.path} recorded")
    return Duration(None, "no run here has recorded a rate yet")


def _training_estimate(run: Run, name: str, n_steps: int) -> Duration:
    """Estimate by seconds a step of the same network in this run, or in one beside it."""
    mine = _network(run.config.to_dict(), name)
    rough: Duration | None = None
    for directory in _neighbours(run):
        for record in _records(directory, "train"):
            with suppress(KeyError, TypeError, ValueError, ZeroDivisionError, PileupgenError):
                rate = record["rate"][name]
                seconds = float(rate["seconds"]) / float(rate["n_steps"]) * n_steps
                if _network(directory.load_config(), name) == mine:
                    return Duration(seconds, f"by the rate that {directory.path} recorded")
                rough = rough or Duration(
                    seconds, f"roughly, by {directory.path}, whose networks or batches differ"
                )
    return rough or Duration(None, "no run here has recorded a rate yet")


def _network(config: Mapping[str, Any], name: str) -> list[Any]:
    """Settings that the time of a network's step depends on."""
    own = {key: value for key, value in config[name].items() if key != "steps"}
    codec = {key: value for key, value in config["autoencoder"].items() if key != "steps"}
    training = config["training"]
    batch = (training["batch_size"], training["micro_batch"], training["mixed_precision"])
    return [own, codec, config["codec"], config["preprocess"]["geometry"], *batch]


def _neighbours(run: Run) -> Iterator[RunDirectory]:
    """Yield the run's own directory, then those beside it, the latest first."""
    yield run.directory
    with suppress(OSError):
        others = [path for path in run.directory.path.parent.iterdir() if path.is_dir()]
        for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
            if path.name != run.directory.path.name:
                yield RunDirectory(path)


def _records(directory: RunDirectory, pattern: str) -> Iterator[Record]:
    """Yield what stages recorded, the latest first."""
    paths = list((directory.path / "stages").glob(f"{pattern}.json"))
    for path in sorted(paths, key=_time, reverse=True):
        with suppress(OSError, ValueError):
            yield json.loads(path.read_text(encoding="utf-8"))


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
