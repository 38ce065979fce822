"""The verdict in words: what agrees, what differs, and by how many σ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pileupgen.compare.records import CLEAR, Verdict
from pileupgen.compare.results import Comparison
from pileupgen.report.ladder import sentences
from pileupgen.report.text import Standing, number, percent, places, sigma_text, standings

AUC_ERRORS = 2.0
"""Errors from 1/2 within which an AUC is called chance."""
ONE_SIDED = 1.645
"""Errors to the upper limit of a normal distribution at 95 % confidence."""
N_TOLD = 5
"""Tests named in the verdict; tables have the others."""
RISE = 0.1
"""Rise of a control, over the value of the row that it replaces, that is tolerated."""
FRECHET_RATIO = 2.0
"""Reference's over translated's Fréchet distance above which a few events are said to drive it."""


@dataclass(frozen=True)
class Judgement:
    """What the first lines of the report say; plain text."""

    agrees: bool
    """Whether the events are equivalent to real ones within the margin, no test differs by more
    than ``CLEAR`` σ, and the control holds."""
    lead: str
    """The verdict in one sentence."""
    progress: str
    """What the translation achieved."""
    for_it: tuple[str, ...]
    against_it: tuple[str, ...]
    cautions: tuple[str, ...]
    """What agrees, what differs, and what to know before relying on either."""


def judge_comparison(comparison: Comparison) -> Judgement:
    """Put the numbers of a comparison into words."""
    verdict = comparison.verdicts["translated"]
    holds = comparison.verdicts["reference"].significance <= CLEAR
    quiet = verdict.significance <= CLEAR
    kept, changed = _controls(comparison)
    passed, failed = _two_sample(comparison)
    near, far = _observables(comparison)
    return Judgement(
        agrees=quiet
        and holds
        and comparison.equivalence is not None
        and comparison.equivalence.holds,
        lead=_lead(comparison, verdict, quiet),
        progress=" ".join([_progress(comparison), *sentences(comparison)]),
        for_it=(*_reference(comparison, holds), *kept, *near, *passed, *_correlation(comparison)),
        against_it=(*_findings(verdict), *failed, *far, *changed),
        cautions=(
            *_broken(comparison, holds),
            *_unlike(comparison),
            *_frechet(comparison),
            *comparison.notes,
        ),
    )


def _lead(comparison: Comparison, verdict: Verdict, quiet: bool) -> str:
    target = comparison.target.label
    before = sigma_text(comparison.verdicts["source"].significance)
    found = comparison.equivalence
    if quiet and found is not None:
        how_far = (
            f"the mean W1/σ is above the reference's by at most {number(max(found.limit, 0.0))} "
            f"(95 % confidence; margin {found.margin:g})"
        )
        none = f"none of {verdict.n_tests:,} statistical tests differs by more than {CLEAR:g} σ"
        if found.holds:
            lead = (
                f"Translated events are equivalent to {target} within a margin: {how_far}, {none}."
            )
        else:
            lead = (
                f"No difference from {target} is found, but that translated events are equivalent "
                f"is not shown: {how_far}, {none}. More events are needed to decide."
            )
        return f"{lead} Before translation, the most significant difference was {before}."
    return (
        f"Translated events differ from {target} by {sigma_text(verdict.significance)} in the most "
        f"significant of {verdict.n_tests:,} statistical tests ({verdict.findings[0].name}), "
        f"corrected for their number. Before translation it was {before}."
    )


def _progress(comparison: Comparison) -> str:
    reference, source, after = (
        comparison.rows[name].mean_w1.value for name in ("reference", "source", "translated")
    )
    text = (
        f"The mean W1/σ over the observables changed from {number(source)} to {number(after)}; the "
        f"reference, real events compared with other real events, has {number(reference)}."
    )
    removed = comparison.translated.shift_removed
    if not removed.is_known:
        return text
    interval = ""
    if removed.has_interval:
        interval = f" ({percent(removed.low)} to {percent(removed.high)})"
    return f"{text} The translation removed {percent(removed.value)} of the shift{interval}."


def _reference(comparison: Comparison, holds: bool) -> list[str]:
    if not holds:
        return []
    found = sigma_text(comparison.verdicts["reference"].significance)
    return [
        f"The same tests of real events against other real events give {found}, so they raise no "
        "false alarm."
    ]


def _broken(comparison: Comparison, holds: bool) -> list[str]:
    if holds:
        return []
    found = sigma_text(comparison.verdicts["reference"].significance)
    return [
        f"The reference fails its own tests: real events differ from other real events by {found}. "
        "The target's splits are not alike, so no significance on this page can be trusted."
    ]


def _unlike(comparison: Comparison) -> list[str]:
    """Say where source events are not those that the model was trained on."""
    found = comparison.source_check
    if found is None or not found.is_unlike:
        return []
    text = (
        f"The source events are not like those of the training: {found.n_unlike:,} of "
        f"{found.n_events:,} are flagged, where chance flags 1 in 1,000"
    )
    if math.isfinite(found.significance):
        text += f", and the means of the sample differ by {sigma_text(found.significance)}"
        if found.shifts:
            text += f", most in '{found.shifts[0][0]}'"
    return [text + "."]


def _controls(comparison: Comparison) -> tuple[list[str], list[str]]:
    """What the method does to events that need no change: nothing to be seen, or something."""
    kept: list[str] = []
    changed: list[str] = []
    for control in comparison.controls.rows.values():
        row, rise = control.row, control.rise
        before = comparison.rows[control.replaces].mean_w1.value
        if not (rise.is_known and math.isfinite(rise.low) and math.isfinite(before)):
            continue
        text = (
            f"Control {row.label}: the mean W1/σ is {number(row.mean_w1.value)}, where the "
            f"{control.replaces} has {number(before)}: a rise of {number(rise.value)} "
            f"({number(rise.low)} to {number(rise.high)})"
        )
        if row.source_correlation is not None and row.source_correlation.block.is_known:
            text += (
                f". Its source correlation in {places(comparison)}, "
                f"{number(row.source_correlation.block.value)}, is the largest to be expected of "
                "translated events released at the same time"
            )
        stays = rise.low <= 0 or rise.value <= RISE * before
        (kept if stays else changed).append(text + ".")
    return kept, changed


def _findings(verdict: Verdict) -> list[str]:
    clear = [found for found in verdict.findings if found.significance > CLEAR]
    texts = [f"{found.name}: {sigma_text(found.significance)}." for found in clear[:N_TOLD]]
    if verdict.n_clear > N_TOLD:
        texts.append(
            f"{verdict.n_clear:,} of {verdict.n_tests:,} tests exceed {CLEAR:g} σ after correction "
            f"for their number; the table of tests has the {len(verdict.findings)} most "
            "significant."
        )
    return texts


def _two_sample(comparison: Comparison) -> tuple[list[str], list[str]]:
    passed, failed = [], []
    tests = comparison.translated.two_sample
    for test, what in ((tests.features, "the observables"), (tests.cells, "single cells")):
        if test is None:
            continue
        value = f"AUC {number(test.auc)} ± {number(test.total_error)}"
        if test.auc - 0.5 <= AUC_ERRORS * test.total_error:
            limit = test.auc + ONE_SIDED * test.total_error
            passed.append(
                f"A classifier on {what} is not shown to do better than chance: {value}, at most "
                f"{number(limit)} (95 % confidence)."
            )
        else:
            failed.append(
                f"A classifier on {what} distinguishes translated from real events: {value}."
            )
    return passed, failed


def _observables(comparison: Comparison) -> tuple[list[str], list[str]]:
    by_standing: dict[Standing, list[str]] = {"reference": [], "nearer": [], "farther": []}
    for name, found in standings(comparison).items():
        if found in by_standing:
            by_standing[found].append(name)
    n = sum(map(len, by_standing.values()))

    def told(where: Standing, words: str) -> list[str]:
        names = by_standing[where]
        listed = ", ".join(names)
        return [f"W1/σ is {words} in {len(names)} of {n} observables: {listed}."] if names else []

    return (
        told("reference", "compatible with the reference"),
        told("nearer", "smaller than the source's but larger than the reference's")
        + told("farther", "larger than the source's"),
    )


def _correlation(comparison: Comparison) -> list[str]:
    found = comparison.translated.source_correlation
    if found is None or not found.block.is_known:
        return []
    place = places(comparison)
    text = f"The source correlation is {number(found.block.value)} in {place}"
    if found.cell.is_known:
        text += f" and {number(found.cell.value)} in cells"
    null = comparison.controls.null_source_correlation_block
    if null is not None and null.is_known:
        text += f"; with the sources of other events it is {number(null.value)} in {place}"
    return [text + "."]


def _frechet(comparison: Comparison) -> Sequence[str]:
    reference, after = comparison.reference.fpd, comparison.translated.fpd
    if reference is None or after is None:
        return ()
    near = FRECHET_RATIO * (after.high if math.isfinite(after.high) else after.value)
    if reference.value <= near < reference.high:
        return (
            "FPD and KPD of one reference sample are large "
            f"(FPD {number(reference.high)}), because a few extreme events dominate a covariance. "
            "The reference is therefore the median over its samples.",
        )
    if reference.value > near:
        return (
            f"FPD and KPD: the reference is farther from the target ({number(reference.value)}) "
            f"than translated events are ({number(after.value)}). This happens where a few extreme "
            "events dominate a covariance; do not rank models by these two numbers.",
        )
    return ()
