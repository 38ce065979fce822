"""What tables, notes and figures show of each kind of quality that systems are judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pileupgen.compare.jet_quality import TABLE_J, JetQuality
from pileupgen.compare.quality import Quality
from pileupgen.compare.shower_quality import TABLE_A, ShowerQuality
from pileupgen.compare.systems import AnyQuality, SystemRow, SystemTable
from pileupgen.compare.zdc_quality import ZdcQuality
from pileupgen.measure.bootstrap import Estimate
from pileupgen.measure.fibres import CHANNELS
from pileupgen.report.text import NONE, estimate_text

_LEARNED = (
    "All work on Gaussian scores of cells given {place} and {condition}, and their output is "
    "brought to the target's marginals in the same way."
)
_PARAMETRISED = (
    "It is a parametrisation itself: over a full simulation it would be larger by orders of "
    "magnitude."
)


@dataclass(frozen=True)
class ShownQuality:
    """Words and cells of one kind."""

    columns: tuple[str, ...]
    """Heads of the table."""
    cells: Callable[[Any], list[str]]
    """What stands below them of a quality, without the name."""
    learned: str
    """What systems work on."""
    note: str
    """What is generated, and what distances are."""
    simulated: str = ""
    """What the built-in simulation makes, and what it is."""
    last: Callable[[SystemRow], str] | None = None
    """Cell of the last column, where that is of a system's row."""
    independent: str = "independent cells"
    """What the yardstick draws."""
    w1_label: str = r"mean $W_1/\sigma$ to data"


def shown_of(table: SystemTable) -> ShownQuality:
    """What is shown of a table's qualities."""
    return _KINDS[type(table.reference)]


def _auc(found: AnyQuality) -> list[str]:
    """Both two-sample tests."""
    cells = NONE
    if found.cell_auc is not None:
        cells = f"{found.cell_auc:.3f} ± {found.cell_auc_error:.3f}"
    return [f"{found.auc:.3f} ± {found.auc_error:.3f}", cells]


def _thousandfold(one: Estimate | None) -> str:
    if one is None:
        return NONE
    return estimate_text(Estimate(1000 * one.value, 1000 * one.low, 1000 * one.high))


def _of_pileup(found: Quality) -> list[str]:
    return [
        *(estimate_text(one) for one in (found.w1, found.shift_removed)),
        *_auc(found),
        estimate_text(found.block),
        *(_thousandfold(one) for one in (found.fpd, found.kpd)),
    ]


def _of_showers(found: ShowerQuality) -> list[str]:
    return [
        estimate_text(found.w1),
        *(estimate_text(found.distances[name]) for name in TABLE_A),
        *(_thousandfold(one) for one in (found.fpd, found.kpd)),
        *_auc(found),
    ]


def _of_light(found: ZdcQuality) -> list[str]:
    return [
        estimate_text(found.w1),
        *(estimate_text(found.channels[name]) for name in CHANNELS),
        *_auc(found),
    ]


def _of_jets(found: JetQuality) -> list[str]:
    return [
        estimate_text(found.w1),
        *(
            estimate_text(one) if name == _COUNTED else _thousandfold(one)
            for name, one in ((name, found.distances[name]) for name in TABLE_J)
        ),
        *(_thousandfold(one) for one in (found.fpd, found.kpd)),
        *_auc(found),
    ]


def _nats(row: SystemRow) -> str:
    if row.nats is None or row.nats_error is None:
        return NONE
    bound = "" if row.nats_are_exact else "≥ "
    # A flow may find single events of the test nearly impossible, and the mean is then theirs.
    form = ".4f" if max(abs(row.nats), row.nats_error) < 100 else ".2g"
    return f"{bound}{row.nats:{form}} ± {row.nats_error:{form}}"


_COUNTED = "n_constituents"
"""The one distance of jets that is no small number."""
_PHYSICS = ("FPD × 1000", "KPD × 1000")
_AUC = ("AUC, observables", "AUC, cells")
_KINDS: dict[type, ShownQuality] = {
    Quality: ShownQuality(
        columns=(
            *("system", "W1/σ", "shift removed", *_AUC, "source correlation, blocks"),
            *(*_PHYSICS, "nats a cell"),
        ),
        cells=_of_pileup,
        learned=_LEARNED.format(place="ring, layer", condition="μ"),
        note="What is made from noise has the μ of the target's own events; the reference and what "
        "is translated have other ones, and their distances are larger for that.",
        last=_nats,
    ),
    ShowerQuality: ShownQuality(
        columns=("system", "mean W1/σ", *TABLE_A.values(), *_PHYSICS, *_AUC),
        cells=_of_showers,
        learned=_LEARNED.format(place="ring, layer", condition="incident energy"),
        note="Showers are made at the incident energies of the target's; the reference has other "
        "ones, and its distances in hits are larger for that. Distances are W1/σ; those of "
        "hits' energies, depths and radii are of all showers together. Times alone and of 100 "
        "are of one thread.",
        simulated="a shower; the speed-up is over it, in batches of 100. " + _PARAMETRISED,
    ),
    ZdcQuality: ShownQuality(
        columns=("system", "mean W1, photons", *CHANNELS.values(), *_AUC, "training, CPU min"),
        cells=_of_light,
        learned=_LEARNED.format(place="place", condition="energy of the particle"),
        note="Light is made for held-out particles of the same kind as the target's, not for the "
        "same ones. Fibres are a chequerboard: those of one colour are read in common, the "
        "others by quadrant. Distances are W1 of a channel's photons.",
        simulated="a particle; the speed-up is over it, in batches of 100. " + _PARAMETRISED,
        last=lambda row: f"{row.training_seconds / 60:.2g}",
        w1_label="mean $W_1$ [photons]",
    ),
    JetQuality: ShownQuality(
        columns=(
            *("system", "mean W1/σ"),
            *(text if name == _COUNTED else f"{text} × 1000" for name, text in TABLE_J.items()),
            *(*_PHYSICS, "AUC, jets", "AUC, constituents"),
        ),
        cells=_of_jets,
        learned="Systems of points work on Gaussian scores of a constituent's η, φ and p_T, and "
        "their output is brought to the target's marginals in the same way; the number of "
        "constituents and the sum of their p_T are drawn given the jet's p_T. Other systems see a "
        "row of numbers.",
        note="Jets are made at the p_T of held-out jets, not of those that they are compared with. "
        "η and φ are relative to the jet axis, p_T and mass over the jet's p_T; distances are W1, "
        "their mean that of W1/σ. Times alone and of 100 are of one thread.",
        simulated="a jet, from the collision on; the speed-up is over it, in batches of 100.",
        independent="independent constituents",
    ),
}
