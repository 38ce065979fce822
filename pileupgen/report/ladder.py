"""The ladder of a validation in words, and the cells of its table."""

from __future__ import annotations

import math

from pileupgen.compare.ladder import AS_ASKED, FAMILIES
from pileupgen.compare.records import CLEAR, TELLING, Difference, Ladder, Rung
from pileupgen.compare.results import Comparison
from pileupgen.measure.bootstrap import Estimate
from pileupgen.report.text import NONE, estimate_text, number, percent, sigma_text

_LEFT_OUT = ("network_off", "class_kept", "unguided", "scale_kept", "not_self_conditioned")
_PHYSICS = {"rho": "⟨ρ⟩", "rho_resolution": "ρ resolution", "met_sigma": "σ(missing E_T)"}
_WITHOUT_DIFFUSION = (("calibrate", "calibration alone"), ("transport", "the linear map alone"))
"""Translations without diffusion, the simplest first: their mode and name."""
_ADDED = (
    ("transport", "What the diffusion adds to calibration and a linear map of correlations"),
    ("network_off", "What the network adds to the closed form"),
)


def ladder_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Headings and one row of text for each variant; no rows where no ladder was made."""
    ladder = comparison.ladder
    if ladder is None:
        return [], []
    families = [key for key in FAMILIES if key in ladder.rungs[0].families]
    physics = [key for key in _PHYSICS if key in ladder.rungs[0].physics]
    headings = [
        "variant",
        "mean W1/σ",
        "rise of W1/σ",
        "AUC",
        "rise of the AUC",
        "source correlation, blocks",
        "significance",
        "shift removed",
        *(f"W1/σ (shift removed), {FAMILIES[key]}" for key in families),
        *(f"{_PHYSICS[key]} over the target's" for key in physics),
        "W1/σ · AUC, not corrected",
    ]
    rows = []
    if ladder.reference_families:
        own = [estimate_text(ladder.reference_families[key]) for key in families]
        rest = [NONE] * (len(headings) - 8 - len(own))
        rows.append(["reference", estimate_text(ladder.reference), *[NONE] * 6, *own, *rest])
    for rung in ladder.rungs:
        plain = NONE
        if rung.plain_w1 is not None and rung.plain_auc is not None:
            plain = f"{number(rung.plain_w1.value)} · {number(rung.plain_auc.value)}"
        rows.append(
            [
                rung.label,
                estimate_text(rung.mean_w1),
                _rise(rung.w1_rise),
                estimate_text(rung.auc),
                _rise(rung.auc_rise),
                number(rung.block.value),
                sigma_text(rung.significance),
                _percent(rung.removed["all"]),
                *(_family(rung, key) for key in families),
                *(estimate_text(rung.physics[key]) for key in physics),
                plain,
            ]
        )
    return headings, rows


def caption_of(comparison: Comparison) -> str:
    """What the table shows, in sentences."""
    ladder = comparison.ladder
    if ladder is None:
        return ""
    return (
        f"What each part of the translation is worth: variants with one part left out, the same "
        f"{ladder.n_events:,} source events in every row, each row with its own correction of "
        "marginals after the decode. A rise is the value less that of the translation as asked; "
        "its error is from paired bootstrap draws. The fraction of the shift removed is given "
        f"where the source is farther than the reference by more than {CLEAR:g} σ; elsewhere there "
        "is no shift to remove. The reference has a mean W1/σ of "
        f"{number(ladder.reference.value)}."
    )


def sentences(comparison: Comparison) -> list[str]:
    """Say what the diffusion adds to the linear map and which parts change nothing.

    Where a translation without diffusion is not clearly farther from the target, it is recommended,
    if the events are enough to tell.
    """
    ladder = comparison.ladder
    if ladder is None:
        return []
    told = []
    for name, words in _ADDED:
        if name not in ladder:
            continue
        w1, auc = ladder[name].w1_rise, ladder[name].auc_rise
        if w1 is not None and auc is not None:
            told.append(
                f"{words}: W1/σ {_signed(-w1.value.value)} ({_in_sigma(w1)}), AUC "
                f"{_signed(-auc.value.value)} ({_in_sigma(auc)})."
            )
    idle = [ladder[n].label for n in _LEFT_OUT if n in ladder and not _largest(ladder[n]) > CLEAR]
    if idle:
        told.append(f"Without a clear effect here: {', '.join(idle)}.")
    better = [
        rung.label
        for rung in ladder.rungs
        if rung.name != "weighted" and any(s < -CLEAR for s in _sigmas(rung))
    ]
    if better:
        told.append(f"Nearer to the target than as asked: {', '.join(better)}.")
    return [*told, *_simplest(ladder)]


def _simplest(ladder: Ladder) -> list[str]:
    """The simplest translation without diffusion that is not clearly farther, recommended."""
    asked = ladder[AS_ASKED]
    modes = [mode for mode, _ in _WITHOUT_DIFFUSION]
    mode_asked = ladder.settings.get("mode")
    n_simpler = modes.index(mode_asked) if mode_asked in modes else len(modes)
    for mode, name in _WITHOUT_DIFFUSION[:n_simpler]:
        if mode not in ladder:
            continue
        rung = ladder[mode]
        w1, auc = rung.w1_rise, rung.auc_rise
        if w1 is None or auc is None or any(sigma > CLEAR for sigma in _sigmas(rung)):
            continue
        # A single test may tell what the means over observables do not.
        if rung.significance > max(CLEAR, asked.significance):
            continue
        if rung.block.value < asked.block.value:
            continue
        if not _can_tell(w1, auc):
            return [
                f"The test has too few events to tell whether the diffusion is worth anything: of "
                f"{ladder.n_events:,}, what {name} lacks is seen from a difference of about "
                f"{number(CLEAR * w1.value.error)} in W1/σ or "
                f"{number(CLEAR * auc.value.error)} in the AUC on, and {TELLING:g} should be. "
                "Nothing is recommended; validate more test events."
            ]
        return [
            f"With these {ladder.n_events:,} events the translation does not come clearly nearer "
            f"to the target than {name}, which has W1/σ {number(rung.mean_w1.value)} in place of "
            f"{number(asked.mean_w1.value)} ({_in_sigma(w1)}), AUC {number(rung.auc.value)} in "
            f"place of {number(asked.auc.value)} ({_in_sigma(auc)}) and a source correlation of "
            f"{number(rung.block.value)} in place of {number(asked.block.value)}. "
            f"Recommended: --mode {mode}."
        ]
    return []


def _can_tell(w1: Difference, auc: Difference) -> bool:
    """Whether a difference of ``TELLING`` would be clear, or the events are the very same ones."""
    if w1.value.value == 0 and w1.value.error == 0:
        return True
    # Trees that have too few events to split give the same AUC whatever they are shown.
    errors = w1.value.error, auc.value.error
    return all(0 < CLEAR * error <= TELLING for error in errors)


def _sigmas(rung: Rung) -> list[float]:
    return [
        rise.sigma
        for rise in (rung.w1_rise, rung.auc_rise)
        if rise is not None and math.isfinite(rise.sigma)
    ]


def _largest(rung: Rung) -> float:
    return max((abs(sigma) for sigma in _sigmas(rung)), default=0.0)


def _rise(rise: Difference | None) -> str:
    if rise is None:
        return NONE
    value = rise.value
    return f"{_signed(value.value)} ± {number(value.error)} ({_in_sigma(rise)})"


def _in_sigma(rise: Difference) -> str:
    return f"{abs(rise.sigma):.1f} σ" if math.isfinite(rise.sigma) else "equal"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _family(rung: Rung, key: str) -> str:
    """W1/σ of a family, and what fraction of a clear shift is removed."""
    text = estimate_text(rung.families[key])
    removed = rung.removed[key]
    return f"{text} ({_percent(removed)})" if removed.is_known else text


def _percent(estimate: Estimate) -> str:
    if not estimate.is_known:
        return NONE
    if not estimate.has_interval:
        return percent(estimate.value)
    return f"{100 * estimate.value:.0f} ± {percent(estimate.error)}".replace("-", "−")
