"""`pileupgen preprocess`: data cards to image stores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from pileupgen.cli.mu_matching import MuMatching, match_to_data
from pileupgen.cli.ui.console import (
    progress,
    say_current,
    say_next,
    say_read,
    say_wrote,
    warn,
)
from pileupgen.cli.ui.farm_options import (
    ClusterOption,
    ExecutorOption,
    Farm,
    JobOption,
    SchedulerOption,
    WorkersOption,
)
from pileupgen.cli.ui.library_log import warnings_on_console
from pileupgen.cli.ui.sample_table import DOMAINS, show_comparison
from pileupgen.cli.ui.session import (
    ConfigOption,
    DeviceOption,
    RunOption,
    SeedOption,
    Session,
    open_session,
)

if TYPE_CHECKING:
    from pileupgen.calo.geometry import Grid
    from pileupgen.samples.cards import DataCard
    from pileupgen.samples.checks import Finding
    from pileupgen.samples.ingest import IngestSummary
    from pileupgen.samples.readers import InputFile
    from pileupgen.workflow.generated import Spec

_PRELOAD = ("pileupgen.samples.stream", "uproot", "awkward")
"""Modules that processes which read and draw load once for all."""


def preprocess(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,  # noqa: ARG001 - every command takes it; towers need none
    max_events: Annotated[
        int | None,
        typer.Option(
            "--max-events",
            "-n",
            min=1,
            help="Events per domain. (default: the config's)",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Do it again, even if the inputs are unchanged.")
    ] = False,
    workers: WorkersOption = 1,
    executor: ExecutorOption = None,
    scheduler: SchedulerOption = None,
    cluster: ClusterOption = None,
    job: JobOption = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out what cannot be read of a file, and name it."),
    ] = False,
    match_mu: Annotated[
        MuMatching | None,
        typer.Option(
            "--match-mu",
            help="Give mc the μ profile of data: by event weights, or by dropping events (which "
            "the training sees too).",
            show_default=False,
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", help="A check whose findings are no errors; may be repeated.", metavar="NAME"
        ),
    ] = None,
) -> None:
    """Turn the towers of two samples into images.

    Reads the data cards that the config names under [bold]samples[/]: one for
    the source domain (mc), one for the target (data). A card names files, or
    asks for a sample to be generated, which is then made and cached beside
    the run directories. Writes [bold]data/mc.h5[/] and [bold]data/data.h5[/]
    in the run directory, and compares the two.

    \b
    Examples:
      pileupgen preprocess
      pileupgen preprocess --config delphes_hard
      PILEUPGEN_DATA=~/data pileupgen preprocess --config delphes_mild --run runs/mild
      pileupgen preprocess --config my.yaml --max-events 500 --run runs/quick
      pileupgen preprocess --config my.yaml --workers 8 --skip-bad --match-mu resample
      pileupgen preprocess --config my.yaml --cluster slurm --workers 50 --job queue=short
    """
    from pileupgen.samples.cards import default_suppression
    from pileupgen.samples.checks import judge, require_known

    changes = {"max_events": max_events, "allow": allow or None}
    session = open_session(config, run, seed, preprocess=changes)
    settings = session.config.preprocess
    require_known(settings.allow)
    session.adopt()
    farm = Farm(executor, scheduler, cluster, workers, job, _PRELOAD, session.run.logs)
    with warnings_on_console(), farm:
        cards = {domain: find_card(session, domain) for domain in DOMAINS}
        limit = settings.zero_suppression
        limit = default_suppression(cards.values()) if limit is None else limit
        how = _How(force, farm, skip_bad, match_mu, limit)
        _require_same_features(cards)
        # mc may take its μ profile from data.
        order = DOMAINS[::-1] if match_mu else DOMAINS
        done = {domain: _preprocess_domain(session, domain, cards[domain], how) for domain in order}
        summaries = {domain: done[domain] for domain in DOMAINS}
    show_comparison(summaries, limit)
    found = find_doubts(session, cards, summaries, is_matched=match_mu is not None)
    for finding in judge(found, settings.allow):
        warn(escape(str(finding)))
    _finish(session, summaries)
    # The run keeps what was changed on the command line; a config named again would undo it.
    is_changed = seed is not None or max_events is not None
    say_next(f"pileupgen train{f' --run {session.run.path}' if is_changed else session.arguments}")


@dataclass(frozen=True)
class _How:
    """What the command line asks for beside the config."""

    force: bool
    farm: Farm
    skip_bad: bool
    match_mu: MuMatching | None
    zero_suppression: float


@dataclass(frozen=True)
class _Source:
    """What a domain is made from.

    Attributes
    ----------
    card : DataCard
        The sample.
    files : list of Path
        Its files.
    generated : str
        Fingerprint of the generated sample; empty where the card names files.
    """

    card: DataCard
    files: list[InputFile]
    generated: str

    def key(self) -> list[Any]:
        """Collect what changes if an input changes."""
        if self.generated:
            return [self.generated]
        return [[str(path.name), *_size_and_time(path)] for path in self.files]

    def inputs(self) -> list[dict[str, Any]]:
        """Names, sizes and hashes for the provenance."""
        from pileupgen.samples.ingest import describe_inputs

        if self.generated:
            # Of a ROOT file that holds the time it was made at, the hash would say nothing.
            return [{"name": self.files[0].name, "generated": self.generated}]
        return describe_inputs(self.card, self.files)


def _require_same_features(cards: dict[str, DataCard]) -> None:
    """Refuse two tables of other features, before anything is read."""
    from pileupgen.calo.geometry import require_same_grid

    grids = [cards[domain].grid for domain in DOMAINS]
    if grids[0] is not None and grids[1] is not None:
        names = [f"card '{cards[domain].name}'" for domain in DOMAINS]
        require_same_grid(grids[0], grids[1], names[0].capitalize(), names[1])


def find_card(session: Session, domain: str) -> DataCard:
    """Load a domain's card and check its files or settings, before anything is begun."""
    from pileupgen.resources import find_file
    from pileupgen.samples.cards import load_card

    name: str = getattr(session.config.samples, domain)
    # A bare name is a card's; beside the config, a config may have the same.
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    card = load_card(find_file(name, "data_cards", session.config_path if is_path else None))
    if card.generate is None:
        card.input_files()
    else:
        _sample_spec(session, card)
    if card.domain != domain:
        warn(f"card '{card.name}' describes {card.domain}; here it stands for {domain}")
    return card


def _preprocess_domain(session: Session, domain: str, card: DataCard, how: _How) -> IngestSummary:
    from pileupgen.run import fingerprint, versions
    from pileupgen.samples.ingest import IngestSummary, ingest
    from pileupgen.samples.readers.remote import packages_of
    from pileupgen.samples.store import SCHEMA_VERSION

    settings, store = session.config.preprocess, session.run.images(domain)
    grid = find_grid(card, settings.geometry)
    source = _find_source(session, domain, card, how.skip_bad)
    made_of = {
        "card": source.card.to_dict(),
        "inputs": source.key(),
        "grid": grid.to_dict(),
        "settings": settings.model_dump(mode="json", exclude={"allow"}),
        "zero_suppression": how.zero_suppression,
        "seed": session.config.seed,
        "schema": SCHEMA_VERSION,
        "versions": versions(),
    }
    if how.skip_bad:
        made_of["skip_bad"] = True
    if how.match_mu is not None and domain == "mc":
        data = session.run.details("preprocess_data")["made_from"]
        made_of["match_mu"] = [how.match_mu.value, data]
    made_from = fingerprint(made_of)
    stage = f"preprocess_{domain}"
    if not how.force and session.run.is_current(stage, made_from, [store]):
        say_current(domain, store)
        return IngestSummary.from_dict(session.run.details(stage)["summary"])
    inputs, files = source.inputs(), source.files
    executor = how.farm.executor
    executor.require_packages(packages_of(files))
    if executor.is_remote:
        files = [file.absolute() if isinstance(file, Path) else file for file in files]
        executor.require_visible([file for file in files if isinstance(file, Path)])
    reader = source.card.open(files)
    estimate = min(reader.estimate_events(), settings.max_events or 1 << 62)
    with progress(f"{domain}: towers to images", estimate) as advance:
        summary = ingest(
            reader,
            grid,
            store,
            domain=domain,
            card=source.card,
            inputs=inputs,
            zero_suppression=how.zero_suppression,
            fractions=settings.fractions,
            seed=session.config.seed,
            max_events=settings.max_events,
            executor=executor,
            skip_bad=how.skip_bad,
            allow=settings.allow,
            advance=advance,
        )
    if how.match_mu is not None and domain == "mc":
        summary = match_to_data(session, summary, how.match_mu)
    session.run.finish(stage, made_from, {"card": source.card.name, "summary": summary.to_dict()})
    size = store.stat().st_size / 1e6
    what = f"images of {grid.shape}"
    if grid.is_feature_table:
        what = f"events of {grid.n_layers} features"
    say_wrote(store, f"{summary.n_events:,} {what}, {size:.1f} MB")
    return summary


def find_doubts(
    session: Session,
    cards: Mapping[str, DataCard],
    summaries: Mapping[str, IngestSummary],
    *,
    is_matched: bool,
) -> list[Finding]:
    """Check both samples, by themselves and against each other."""
    from pileupgen.samples.checks import check_pair, check_profiles, check_sample
    from pileupgen.samples.store import ImageStore

    stores = [ImageStore(session.run.images(domain)) for domain in DOMAINS]
    grid = stores[0].grid
    found: list[Finding] = []
    for domain in DOMAINS:
        where = f"{domain} (card '{cards[domain].name}')"
        found += check_sample(summaries[domain], cards[domain], grid, where)
    mc, data = (summaries[domain] for domain in DOMAINS)
    found += check_pair(mc, data, grid)
    is_known = mc.mean_mu == mc.mean_mu and data.mean_mu == data.mean_mu
    if not is_matched and (is_known or not grid.is_feature_table):
        found += check_profiles(mc, data, *(store.columns["mu"] for store in stores))
    return found


def find_grid(card: DataCard, geometry: str | dict[str, Any]) -> Grid:
    """Grid that a card's events are drawn on: the config's, or of features the card's own.

    Raises
    ------
    GeometryError
        If there is no such geometry, or card and config are not both of features.
    """
    from pileupgen.calo.geometry import FEATURES, get_grid
    from pileupgen.errors import GeometryError

    own = card.grid
    if own is None:
        return get_grid(geometry)
    if geometry != FEATURES:
        raise GeometryError(
            f"Card '{card.name}' is a table of features, but the geometry is of a calorimeter.",
            "Set preprocess.geometry: features in the config.",
        )
    return own


def _find_source(session: Session, domain: str, card: DataCard, skip_bad: bool) -> _Source:
    from pileupgen.samples.readers.remote import size_of

    if card.generate is not None:
        say_read(f"{domain}: {escape(_shown(card.path))}, a sample to be generated")
        return generate_sample(session, card)
    files = card.input_files()
    # A server that cannot be reached is told before anything else is, unless it may be left out.
    size = sum(size_of(file) if skip_bad else file.stat().st_size for file in files) / 1e6
    what = _shown(files[0]) if len(files) == 1 else f"{len(files):,} files"
    say_read(f"{domain}: {escape(f'{_shown(card.path)}, {what}, {size:,.1f}')} MB")
    return _Source(card, files, "")


def _size_and_time(path: InputFile) -> list[int]:
    """Of a file; nothing where its server cannot be reached."""
    from pileupgen.errors import InputError

    try:
        found = path.stat()
    except InputError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _shown(path: InputFile) -> str:
    """Write a path as short as it can be read from here."""
    if not isinstance(path, Path):
        return str(path)
    return min((os.path.normpath(path), os.path.relpath(path)), key=len)


def _sample_spec(session: Session, card: DataCard) -> Spec:
    from pileupgen.workflow.generated import parse_spec

    where = f"{card.path}: generate"
    spec = parse_spec(card.generate or {}, where, folder=card.path.parent)
    wanted = session.config.preprocess.max_events
    if wanted is None or wanted >= spec.n_events:
        return spec
    # An event does not depend on how many follow it.
    return spec.model_copy(update={"n_events": wanted})


def generate_sample(session: Session, card: DataCard) -> _Source:
    """Make the sample that a card asks for, unless the cache beside the runs has it."""
    from pileupgen.simulate.produce import default_cache
    from pileupgen.workflow.generated import is_current, make, n_units, suffix

    spec = _sample_spec(session, card)
    made = spec.fingerprint()
    path = session.run.path.parent / "cache" / f"{made}{suffix(spec)}"
    if is_current(spec, path):
        say_current(f"sample of '{card.name}'", path)
    else:
        with progress(f"simulate {card.name}", n_units(spec), "units") as advance:
            summary = make(spec, path, advance, cache=default_cache())
        say_wrote(path, summary.note)
    return _Source(card, [path], made)


def _finish(session: Session, summaries: dict[str, IngestSummary]) -> None:
    """Record the stage as a whole: both domains, by what each was made from."""
    from pileupgen.run import fingerprint

    made_from = {
        domain: session.run.details(f"preprocess_{domain}")["made_from"] for domain in DOMAINS
    }
    session.run.finish(
        "preprocess",
        fingerprint(made_from),
        {"summaries": {domain: summary.to_dict() for domain, summary in summaries.items()}},
    )
