"""Data cards to image stores, both domains."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pileupgen.calo.geometry import FEATURES, require_same_grid
from pileupgen.calo.presets import get_grid
from pileupgen.errors import ConfigError, GeometryError, InputError
from pileupgen.parallel import Serial
from pileupgen.resources import find_file
from pileupgen.run import fingerprint, versions
from pileupgen.samples.cards import default_suppression, load_card
from pileupgen.samples.checks import (
    Finding,
    check_matching,
    check_pair,
    check_profiles,
    check_sample,
    judge,
    require_known,
)
from pileupgen.samples.ingest import IngestSummary, describe_inputs, ingest
from pileupgen.samples.match import match_mu as match_profiles
from pileupgen.samples.readers.remote import packages_of, size_of
from pileupgen.samples.store import SCHEMA_VERSION, ImageStore, usable_weights
from pileupgen.samples.weights import rows_by_weight
from pileupgen.simulate.produce import default_cache
from pileupgen.workflow.generated import Spec, is_current, make, n_units, parse_spec, suffix
from pileupgen.workflow.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pileupgen.calo.geometry import Grid
    from pileupgen.parallel.farm import Farm
    from pileupgen.samples.cards import DataCard
    from pileupgen.samples.readers import InputFile

MuMatching = Literal["reweight", "resample"]
DOMAINS: tuple[Literal["mc", "data"], ...] = ("mc", "data")
PRELOAD = ("pileupgen.samples.stream", "uproot", "awkward")
"""Modules that worker processes of the preprocessing load once."""
Show = Callable[[Mapping[str, IngestSummary], float], None]
"""Shows what went into each store, and the threshold in GeV that both were cut at."""


@dataclass(frozen=True)
class Preprocessed:
    """The image stores of both domains."""

    run: Run
    summaries: Mapping[str, IngestSummary]
    """What went into the store of each domain, ``mc`` and ``data``."""
    zero_suppression: float
    """Threshold in GeV that both were cut at."""

    @property
    def mc(self) -> ImageStore:
        """Simulated events."""
        return self.run.store("mc")

    @property
    def data(self) -> ImageStore:
        """Recorded events."""
        return self.run.store("data")


@dataclass(frozen=True)
class SampleFiles:
    """What a domain is made from."""

    card: DataCard
    """The sample."""
    files: list[InputFile]
    """Its files."""
    generated: str
    """Fingerprint of the generated sample; empty where the card names files."""

    def key(self) -> list[Any]:
        """Collect what changes if an input changes."""
        if self.generated:
            return [self.generated]
        paths = [*self.files, *self.card.position_files()]
        return [[str(path.name), *_size_and_time(path)] for path in paths]

    def inputs(self) -> list[dict[str, Any]]:
        """Names, sizes and hashes for the provenance."""
        if self.generated:
            # Of a ROOT file that holds the time it was made at, the hash would say nothing.
            return [{"name": self.files[0].name, "generated": self.generated}]
        return describe_inputs(self.card, self.files)


@dataclass(frozen=True)
class _How:
    """Options besides the config."""

    force: bool
    skip_bad: bool
    match_mu: MuMatching | None
    zero_suppression: float
    farm: Farm | None


def preprocess(
    run: Run,
    *,
    match_mu: MuMatching | None = None,
    skip_bad: bool = False,
    force: bool = False,
    farm: Farm | None = None,
    show: Show | None = None,
) -> Preprocessed:
    """Turn the towers of the config's two samples into image stores.

    Parameters
    ----------
    run : Run
    match_mu : str, optional
        Give mc the μ profile of data: ``reweight`` by event weights, ``resample`` by leaving out
        events, which the training sees too.
    skip_bad : bool
        Skip the parts of files that cannot be read, and report them.
    force : bool
        Also where the inputs are unchanged.
    farm : Farm, optional
        Where files are read; the stores do not depend on it.
    show : callable, optional
        Shows the samples side by side, before they are checked.

    Raises
    ------
    CardError
        If a card is malformed or contradicts its files.
    ConfigError
        If a check that is to be allowed is unknown.
    InputError
        If a file is missing or cannot be read.
    GeometryError
        If cards and geometry do not fit each other.
    """
    allow = run.config.preprocess.allow
    require_known(allow)
    run.adopt()
    cards: dict[str, DataCard] = {domain: find_card(run, domain) for domain in DOMAINS}
    limit = common_suppression(run, cards)
    how = _How(force, skip_bad, match_mu, limit, farm)
    _require_same_features(cards)
    # mc may take its μ profile from data.
    order = DOMAINS[::-1] if match_mu else DOMAINS
    done = {domain: _preprocess_domain(run, domain, cards[domain], how) for domain in order}
    summaries: dict[str, IngestSummary] = {domain: done[domain] for domain in DOMAINS}
    if show is not None:
        show(summaries, limit)
    # What cannot be physics ends it here, unless it is allowed.
    found = find_doubts(run, cards, summaries, is_matched=match_mu is not None)
    for finding in judge(found, allow):
        run.listener.warn(str(finding))
    # Record the stage as a whole: both domains, by what each was made from.
    made_from = {
        domain: run.directory.details(f"preprocess_{domain}")["made_from"] for domain in DOMAINS
    }
    records = {domain: summary.to_dict() for domain, summary in summaries.items()}
    run.directory.finish("preprocess", fingerprint(made_from), {"summaries": records})
    return Preprocessed(run, summaries, limit)


def find_card(run: Run, domain: str) -> DataCard:
    """Load a domain's card and check its files or settings, before anything is begun."""
    name: str = getattr(run.config.samples, domain)
    # A bare name is a card's; beside the config, a config may have the same.
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    card = load_card(find_file(name, "data_cards", run.config_path if is_path else None))
    if card.generate is None:
        card.input_files()
    else:
        sample_spec(run, card)
    if card.domain != domain:
        told = f"card '{card.name}' describes {card.domain}; here it stands for {domain}"
        run.listener.warn(told)
    return card


def find_grid(card: DataCard, geometry: str | dict[str, Any]) -> Grid:
    """Find the grid that a card's events are drawn on: the config's, or of features the card's own.

    Raises
    ------
    GeometryError
        If there is no such geometry, or card and config are not both of features.
    """
    own = card.grid
    if own is None:
        return get_grid(geometry)
    if geometry != FEATURES:
        raise GeometryError(
            f"Card '{card.name}' is a table of features, but the geometry is of a calorimeter.",
            "Set preprocess.geometry: features in the config.",
        )
    return own


def sample_spec(run: Run, card: DataCard) -> Spec:
    """Read what a card asks to be generated, with no more events than the config wants."""
    where = f"{card.path}: generate"
    spec = parse_spec(card.generate or {}, where, folder=card.path.parent)
    wanted = run.config.preprocess.max_events
    if wanted is None or wanted >= spec.n_events:
        return spec
    # An event does not depend on how many follow it; separate pools are made for so many.
    return spec.model_copy(update={"n_events": wanted})


def sample_path(run: Run, spec: Spec) -> Path:
    """Give the file that keeps a generated sample, beside the run directories."""
    return run.directory.path.parent / "cache" / f"{spec.fingerprint()}{suffix(spec)}"


def generate_sample(run: Run, card: DataCard) -> SampleFiles:
    """Make the sample that a card asks for, unless the cache beside the runs has it."""
    spec = sample_spec(run, card)
    path = sample_path(run, spec)
    if is_current(spec, path):
        run.listener.current(f"sample of '{card.name}'", path)
    else:
        begun = time.perf_counter()
        with run.listener.progress(f"simulate {card.name}", n_units(spec), "units") as advance:
            summary = make(spec, path, advance, cache=default_cache())
        rate = {"seconds": time.perf_counter() - begun, "n_units": n_units(spec)}
        run.directory.finish(f"simulate_{card.domain}", spec.fingerprint(), {"rate": rate})
        run.listener.wrote(path, summary.note)
    return SampleFiles(card, [path], spec.fingerprint())


def generate_samples(run: Run, replaced: Sequence[str] = ()) -> None:
    """Make the samples that the config's cards ask for, where :func:`preprocess` looks for them.

    Raises
    ------
    ConfigError
        If settings of the cards are ``replaced`` by the command.
    """
    if replaced:
        raise ConfigError(
            f"--config takes its samples from cards; it does not go with {', '.join(replaced)}.",
            "Change the card, or leave --config and --run out.",
        )
    for domain in DOMAINS:
        card = find_card(run, domain)
        if card.generate is None:
            note = f"card '{card.name}' names files, there is nothing to make"
            run.listener.read(f"{domain}: {note}")
        else:
            generate_sample(run, card)


def domain_inputs(
    run: Run, card: DataCard, source: SampleFiles, grid: Grid, zero_suppression: float
) -> dict[str, Any]:
    """Collect what the store of a domain is made from."""
    return {
        "card": card.to_dict(),
        "inputs": source.key(),
        "grid": grid.to_dict(),
        "settings": run.config.preprocess.model_dump(mode="json", exclude={"allow"}),
        "zero_suppression": zero_suppression,
        "seed": run.config.seed,
        "schema": SCHEMA_VERSION,
        "versions": versions(),
    }


def _preprocess_domain(
    run: Run, domain: Literal["mc", "data"], card: DataCard, how: _How
) -> IngestSummary:
    settings, store = run.config.preprocess, run.directory.images(domain)
    grid = find_grid(card, settings.geometry)
    source = _find_source(run, domain, card, how.skip_bad)
    made_of = domain_inputs(run, card, source, grid, how.zero_suppression)
    if how.skip_bad:
        made_of["skip_bad"] = True
    if how.match_mu is not None and domain == "mc":
        data = run.directory.details("preprocess_data")["made_from"]
        made_of["match_mu"] = [how.match_mu, data]
    made_from = fingerprint(made_of)
    stage = f"preprocess_{domain}"
    if not how.force and run.directory.is_current(stage, made_from, [store]):
        run.listener.current(domain, store)
        return IngestSummary.from_dict(run.directory.details(stage)["summary"])
    inputs, files = source.inputs(), source.files
    executor = Serial() if how.farm is None else how.farm.open(*PRELOAD, logs=run.directory.logs)
    executor.require_packages(packages_of(files))
    if executor.is_remote:
        files = [file.absolute() if isinstance(file, Path) else file for file in files]
        executor.require_visible([file for file in files if isinstance(file, Path)])
    reader = source.card.open(files)
    expected = min(reader.estimate_events(), settings.max_events or 1 << 62)
    begun = time.perf_counter()
    with run.listener.progress(f"{domain}: towers to images", expected) as advance:
        summary = ingest(
            reader,
            grid,
            store,
            domain=domain,
            card=source.card,
            inputs=inputs,
            zero_suppression=how.zero_suppression,
            fractions=settings.fractions,
            seed=run.config.seed,
            max_events=settings.max_events,
            executor=executor,
            skip_bad=how.skip_bad,
            allow=settings.allow,
            advance=advance,
        )
    rate = {
        "seconds": time.perf_counter() - begun,
        "n_events": summary.n_events,
        "n_workers": executor.n_workers,
    }
    matched: dict[str, Any] | None = None
    if how.match_mu is not None and domain == "mc":
        before = summary
        summary, n_effective = _match_to_data(run, summary, how.match_mu)
        matched = {"before": before.to_dict(), "n_effective": n_effective}
    record = {
        "card": source.card.name,
        "summary": summary.to_dict(),
        "rate": rate,
        "matched": matched,
    }
    run.directory.finish(stage, made_from, record)
    size = store.stat().st_size / 1e6
    what = f"images of {grid.shape}"
    if grid.is_feature_table:
        what = f"events of {grid.n_layers} features"
    run.listener.wrote(store, f"{summary.n_events:,} {what}, {size:.1f} MB")
    return summary


def _find_source(run: Run, domain: str, card: DataCard, skip_bad: bool) -> SampleFiles:
    if card.generate is not None:
        run.listener.read(f"{domain}: {_shown(card.path)}, a sample to be generated")
        return generate_sample(run, card)
    files = card.input_files()
    # A server that cannot be reached is told before anything else is, unless it may be left out.
    size = sum(size_of(file) if skip_bad else file.stat().st_size for file in files) / 1e6
    what = _shown(files[0]) if len(files) == 1 else f"{len(files):,} files"
    run.listener.read(f"{domain}: {_shown(card.path)}, {what}, {size:,.1f} MB")
    return SampleFiles(card, files, "")


def _require_same_features(cards: Mapping[str, DataCard]) -> None:
    """Refuse two tables of other features, before anything is read."""
    grids = [cards[domain].grid for domain in DOMAINS]
    if grids[0] is not None and grids[1] is not None:
        names = [f"card '{cards[domain].name}'" for domain in DOMAINS]
        require_same_grid(grids[0], grids[1], names[0].capitalize(), names[1])


def _size_and_time(path: InputFile) -> list[int]:
    """Size and time of a file; nothing where its server cannot be reached."""
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


def _match_to_data(
    run: Run, summary: IngestSummary, how: MuMatching
) -> tuple[IngestSummary, float]:
    """Give the store of mc the μ profile of data's; its summary, and the events it is worth."""
    images = run.directory.images
    found = match_profiles(images("mc"), images("data"), how, run.config.seed)
    run.listener.tell(
        "match",
        f"mc to data by {how}: ⟨μ⟩ {summary.mean_mu:.2f} → {found.mean_mu:.2f}, "
        f"{found.n_effective:,.0f} effective of {found.n_before:,} events",
    )
    if found.uncovered > 0:
        run.listener.warn(f"{found.uncovered:.1%} of data has a μ that mc does not have")
    after = replace(
        summary,
        n_events=found.n_events,
        energy=found.energy,
        occupancy=found.occupancy,
        mean_sum_et=found.mean_sum_et,
        sd_sum_et=found.sd_sum_et,
        mean_mu=found.mean_mu,
        sd_mu=found.sd_mu,
    )
    return after, found.n_effective


def find_doubts(
    run: Run,
    cards: Mapping[str, DataCard],
    summaries: Mapping[str, IngestSummary],
    *,
    is_matched: bool,
) -> list[Finding]:
    """Check both samples, by themselves and against each other."""
    stores = [run.store(domain) for domain in DOMAINS]
    grid = stores[0].grid
    found: list[Finding] = []
    for domain in DOMAINS:
        where = f"{domain} (card '{cards[domain].name}')"
        found += check_sample(summaries[domain], cards[domain], grid, where)
    mc, data = (summaries[domain] for domain in DOMAINS)
    found += check_pair(mc, data, grid)
    is_known = mc.mean_mu == mc.mean_mu and data.mean_mu == data.mean_mu
    if is_matched:
        told = run.directory.details("preprocess_mc")["matched"]
        before = IngestSummary.from_dict(told["before"])
        found += check_matching(before, mc, data, told["n_effective"])
    elif is_known or not grid.is_feature_table:
        found += check_profiles(mc, data, *(_profile(store) for store in stores))
    return found


def _profile(store: ImageStore) -> NDArray[np.float32]:
    """μ of a store's events, those of more weight more often: as many as they are worth."""
    columns = store.columns
    mu, weight = columns["mu"], np.asarray(usable_weights(columns), dtype=np.float64)
    if np.ptp(weight) == 0:
        return mu
    n_effective = weight.sum() ** 2 / np.square(weight).sum()
    return mu[rows_by_weight(weight, int(n_effective))]


def common_suppression(run: Run, cards: Mapping[str, DataCard]) -> float:
    """Give the threshold in GeV that both samples are cut at."""
    limit = run.config.preprocess.zero_suppression
    return default_suppression(cards.values()) if limit is None else limit
