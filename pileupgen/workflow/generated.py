"""The kinds of samples that can be made: pileup in a calorimeter, jets, and single particles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pileupgen.errors import CardError, ConfigError
from pileupgen.files import require_no_folder
from pileupgen.jets import produce as produce_jets
from pileupgen.jets.spec import JetSpec
from pileupgen.progress import SILENT, Advance, Listener, silent
from pileupgen.resources import find_file
from pileupgen.samples.cards import load_card
from pileupgen.samples.delphes_file import Container
from pileupgen.simulate import produce, showers, zdc
from pileupgen.simulate.generators import JET_PROCESSES, UNTUNED
from pileupgen.simulate.measured.record import last_check
from pileupgen.simulate.particle_files import write_hepmc
from pileupgen.simulate.pool import read_pool
from pileupgen.simulate.shower_spec import SHOWER, ShowerSpec
from pileupgen.simulate.spec import SampleSpec
from pileupgen.simulate.zdc_spec import ZDC, ZdcSpec

Spec = SampleSpec | JetSpec | ShowerSpec | ZdcSpec


def parse_spec(values: Mapping[str, Any], where: str, folder: Path | None = None) -> Spec:
    """Check a mapping, such as a card's ``generate:``; its ``process`` tells the kind.

    Parameters
    ----------
    values, where, folder
        As for :meth:`SampleSpec.parse`.

    Raises
    ------
    CardError
        Naming every fault and, for an unknown key, the nearest known one.
    """
    process = str(values.get("process", "")).strip().lower()
    kind: type[Spec] = JetSpec if process in JET_PROCESSES else SampleSpec
    kind = ShowerSpec if process == SHOWER else ZdcSpec if process == ZDC else kind
    return kind.parse(values, where, folder)


_ENDINGS = {".root": (".root",), ".h5": (".h5", ".hdf5", ".hdf")}
"""Endings of names of files that are written, in any case, by the one that is the default."""


def suffix(spec: Spec) -> str:
    """Ending of the file that a sample is kept in."""
    return ".root" if isinstance(spec, SampleSpec) else ".h5"


def n_units(spec: Spec) -> int:
    """How far ``advance`` will count."""
    return produce.n_units(spec) if isinstance(spec, SampleSpec) else spec.n_events


def is_current(spec: Spec, path: Path, container: Container = "ttree") -> bool:
    """Whether a file holds this very sample."""
    if isinstance(spec, JetSpec):
        return produce_jets.are_current(spec, path)
    if isinstance(spec, ShowerSpec | ZdcSpec):
        return showers.are_current(spec, path)
    return produce.is_current(spec, path, container)


def make(
    spec: Spec,
    path: Path,
    advance: Advance = silent,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    container: Container = "ttree",
) -> produce.SampleSummary | produce_jets.JetSummary | showers.ShowerSummary | zdc.ZdcSummary:
    """Make a sample.

    See :func:`produce.make_sample`, :func:`produce_jets.make_jets`, :func:`showers.make_showers`,
    :func:`zdc.make_zdc_sample`.
    """
    if isinstance(spec, JetSpec):
        return produce_jets.make_jets(spec, path, advance, workers=workers)
    if isinstance(spec, ShowerSpec):
        return showers.make_showers(spec, path, advance)
    if isinstance(spec, ZdcSpec):
        return zdc.make_zdc_sample(spec, path, advance)
    return produce.make_sample(
        spec, path, advance, cache=cache, workers=workers, container=container
    )


def describe(spec: Spec) -> str:
    """One line that says what will be made."""
    if isinstance(spec, JetSpec):
        return _describe_jets(spec)
    if isinstance(spec, ShowerSpec):
        return _describe_showers(spec)
    if isinstance(spec, ZdcSpec):
        return _describe_zdc(spec)
    mu = f"⟨μ⟩ = {spec.mu:g}" if spec.mu_profile is None else "a given μ profile"
    readout = "" if spec.readout == "card" else f" {spec.readout}"
    return (
        f"{spec.n_events} events, {mu}, {_origin(spec)}, response '{spec.response}'{readout}, "
        f"seed {spec.seed}"
    )


def _origin(spec: SampleSpec) -> str:
    """Say where the particles of a sample come from."""
    made = [
        f"{'hard scatters' if files is spec.hard_scatter else 'minimum bias'} of {files[0]}"
        + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        for files in (spec.hard_scatter, spec.minimum_bias)
        if files
    ]
    if spec.uses_generator:
        tune = "" if spec.tune is None else f" tune {spec.tune}"
        if spec.generator == "pythia6":
            tune = f" ({UNTUNED})"
        threshold = "" if spec.pt_min is None else f" of p_T > {spec.pt_min:g} GeV"
        made.append(
            f"{spec.generator}{tune} {spec.process}{threshold} at {spec.sqrt_s / 1000:g} TeV"
        )
    if spec.separate_pools is None:
        return f"{', '.join(made)}, pool of {spec.pool_size}"
    total = sum(pool.pool_size for kind, pool in spec.pools().items() if kind == "pileup")
    return f"{', '.join(made)}, {len(spec.separate_pools)} separate pools, {total} in all"


def _describe_jets(spec: JetSpec) -> str:
    return (
        f"{spec.n_events} {spec.process} jets of p_T near {spec.pt:g} GeV, {spec.generator} tune "
        f"{spec.tune} at {spec.sqrt_s / 1000:g} TeV, anti-k_t R = {spec.radius:g}, "
        f"{spec.n_constituents} leading particles, seed {spec.seed}"
    )


def _describe_showers(spec: ShowerSpec) -> str:
    low, high = spec.energy
    angle = f" at {spec.angle:g}°" if spec.angle else ""
    return (
        f"{spec.n_events} showers of {spec.particle}s of {low:g} to {high:g} GeV{angle} in "
        f"{spec.medium}, voxels of {spec.geometry}, sampling {spec.sampling:g} √GeV, "
        f"seed {spec.seed}"
    )


def _describe_zdc(spec: ZdcSpec) -> str:
    low, high = spec.energy
    _, n_x, n_y = spec.grid.shape
    return (
        f"{spec.n_events} {spec.particle}s of {low:g} to {high:g} GeV in {n_x} × {n_y} fibres, "
        f"{spec.photons:g} photons a GeV, seed {spec.seed}"
    )


def spec_of_card(name: str, given: Mapping[str, Any]) -> Spec:
    """Read what a card asks to be generated, with other values in place of its own.

    Raises
    ------
    CardError
        If the card names files, or a value does not fit.
    """
    card = load_card(find_file(name, "data_cards"))
    if card.generate is None:
        raise CardError(
            f"Card '{card.name}' ({card.path}) names files; it has no 'generate'.",
            "Take a card of a generated sample, or give the options yourself.",
        )
    # Who asks for one pool of a size means it.
    replaced = {"separate_pools": None} if "pool_size" in given else {}
    values = {**card.generate, **replaced, **given}
    return parse_spec(values, f"'generate' in {card.path}", folder=card.path.parent)


def simulate_to(
    spec: Spec,
    output: Path | None = None,
    name: str | None = None,
    *,
    force: bool = False,
    workers: int | None = None,
    container: Container = "ttree",
    hepmc: Path | None = None,
    listener: Listener = SILENT,
) -> Path:
    """Make a sample and write it, unless the file holds it already.

    Parameters
    ----------
    output : Path, optional
        The file; named after ``name``, the jets' process or ``simulated`` if not given.
    workers : int, optional
        Processes; all cores if not given. Showers and particles in a zero-degree calorimeter are
        made in one.
    container : str
        ``ttree`` or ``rntuple``; jets and showers are HDF5.
    hepmc : Path, optional
        File to write the pool's particles to, as HepMC 3.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigError
        If ``hepmc`` is asked of a sample without a pool of its own, an RNTuple of jets or showers,
        or a file whose name does not end as its kind does, or ends as another kind.
    """
    is_plain = isinstance(spec, SampleSpec) and not spec.is_hard
    default = "simulated" if is_plain else spec.process
    path = output or Path(f"{name or default}{suffix(spec)}")
    for written in (path, *([] if hepmc is None else [hepmc])):
        require_no_folder(written)
    if path.suffix.lower() not in _ENDINGS[suffix(spec)]:
        kind = "a ROOT" if suffix(spec) == ".root" else "an HDF5"
        raise ConfigError(
            f"{path}: this sample is written as {kind} file.",
            f"Name it {path.with_suffix(suffix(spec))}.",
        )
    if hepmc is not None and any(hepmc.suffix.lower() in ends for ends in _ENDINGS.values()):
        raise ConfigError(
            f"{hepmc}: the pool is written as HepMC 3, which is text.",
            f"Name it {hepmc.with_suffix('.hepmc')}.",
        )
    has_one_pool = isinstance(spec, SampleSpec) and spec.separate_pools is None
    if hepmc is not None and not has_one_pool:
        raise ConfigError(
            "Only a sample with one pool of interactions has a pool for --hepmc.",
            "Leave it out, or give --pool-size in place of a card's separate_pools.",
        )
    if container == "rntuple" and not isinstance(spec, SampleSpec):
        raise ConfigError(
            "Jets and showers are written as HDF5, not as an RNTuple.", "Leave --rntuple out."
        )
    listener.tell("make", describe(spec))
    if not force and hepmc is None and is_current(spec, path, container):
        listener.current("simulate", path)
        return path
    with listener.progress("simulate", n_units(spec)) as advance:
        summary = make(
            spec,
            path,
            advance,
            cache=produce.default_cache(),
            workers=workers,
            container=container,
        )
    for pool, was_cached in getattr(summary, "pools", ()):
        if was_cached:
            listener.read(f"{pool} (pool of interactions)")
        else:
            listener.wrote(pool, "pool of interactions, kept for the next sample")
    listener.wrote(summary.path, summary.note)
    if hepmc is not None and isinstance(spec, SampleSpec):
        _write_pool(spec, hepmc, getattr(summary, "pools", ()), listener)
    pileup = spec.pools().get("pileup") if isinstance(spec, SampleSpec) else None
    if pileup is not None and not pileup.files:
        listener.tell("check", last_check(pileup, produce.default_cache()))
    return path


def _write_pool(
    spec: SampleSpec, path: Path, pools: Sequence[tuple[Path, bool]], listener: Listener
) -> None:
    """Write the pool that was used last, of hard scatters if there are any, as HepMC."""
    pool = read_pool(pools[0][0])
    with listener.progress("write HepMC", len(pool), "interactions") as advance:
        write_hepmc(path, pool, spec.sqrt_s, advance)
    listener.wrote(path, f"{len(pool):,} interactions")
