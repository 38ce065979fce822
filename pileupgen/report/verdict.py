"""The verdict in words: what agrees, what does not, and by how many σ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pileupgen.report.text import (
    CLEAR,
    Standing,
    auc_error,
    controls_of,
    has_interval,
    number,
    percent,
    places,
    sigma_text,
    standings,
)

AUC_ERRORS = 2.0
"""Errors from 1/2 within which an AUC is called chance."""
N_TOLD = 5
"""Findings told in the verdict; tables have the others."""
RISE = 0.1
"""Rise of a control over the row that it replaces up to which it is said to stay there."""
FRECHET_RATIO = 2.0
"""Reference's over translated's Fréchet distance above which a few events are said to drive it."""


@dataclass(frozen=True)
class Judgement:
    """What the first lines of the report say; plain text.

    Attributes
    ----------
    agrees : bool
        Whether no test differs by more than ``CLEAR`` σ and the control holds.
    lead : str
        The verdict in one sentence.
    progress : str
        What the translation achieved.
    for_it, against_it, cautions : tuple of str
        What agrees, what does not, and what to know before believing either.
    """

    agrees: bool
    lead: str
    progress: str
    for_it: tuple[str, ...]
    against_it: tuple[str, ...]
    cautions: tuple[str, ...]


def judge_metrics(metrics: Mapping[str, Any]) -> Judgement:
    """Put the numbers of a comparison into words.

    Parameters
    ----------
    metrics : mapping
        What ``metrics.json`` holds.
    """
    verdicts, target = metrics["verdicts"], metrics["target"]["label"]
    verdict, before = verdicts["translated"], verdicts["source"]
    control = verdicts["reference"]["significance"] <= CLEAR
    quiet = verdict["significance"] <= CLEAR
    earlier = f"Before translation it was {sigma_text(before['significance'])}."
    if quiet:
        lead = (
            f"Translated events agree with {target} within {CLEAR:g} σ in all of "
            f"{verdict['n_tests']:,} tests. {earlier}"
        )
    else:
        lead = (
            f"Translated events differ from {target} by {sigma_text(verdict['significance'])} "
            f"after the number of tests ({verdict['n_tests']:,}), most in "
            f"{verdict['findings'][0]['name']}. {earlier}"
        )
    tests, failed = _two_sample(metrics)
    kept, changed = _controls(metrics)
    near, far = _observables(metrics)
    return Judgement(
        agrees=quiet and control,
        lead=lead,
        progress=_progress(metrics),
        for_it=(*_control(metrics, control), *kept, *near, *tests, *_source_correlation(metrics)),
        against_it=(*_findings(verdict), *failed, *far, *changed),
        cautions=(*_broken_control(metrics, control), *_frechet(metrics), *metrics["notes"]),
    )


def _progress(metrics: Mapping[str, Any]) -> str:
    rows = metrics["rows"]
    reference, source, after = (
        rows[name]["mean_w1"]["value"] for name in ("reference", "source", "translated")
    )
    text = (
        f"The mean W1/σ went from {number(source)} to {number(after)}; "
        f"the reference, real against other real events, is {number(reference)}."
    )
    closed = rows["translated"]["shift_removed"]
    if closed["value"] is None:
        return text
    interval = ""
    if has_interval(closed):
        interval = f" ({percent(closed['low'])} to {percent(closed['high'])})"
    return f"{text} The translation closes {percent(closed['value'])} of the gap{interval}."


def _control(metrics: Mapping[str, Any], holds: bool) -> list[str]:
    if not holds:
        return []
    found = sigma_text(metrics["verdicts"]["reference"]["significance"])
    return [f"Control: real against other real events give {found}, so no false alarm."]


def _controls(metrics: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What the method does to events that need no change: nothing to be seen, or something."""
    kept: list[str] = []
    changed: list[str] = []
    for control in controls_of(metrics).values():
        row, rise, replaces = control["row"], control["rise"], control["replaces"]
        after, before = row["mean_w1"]["value"], metrics["rows"][replaces]["mean_w1"]["value"]
        if rise["value"] is None or rise["low"] is None or before is None:
            continue
        stays = rise["low"] <= 0 or rise["value"] <= RISE * before
        text = (
            f"Control {row['label']}: mean W1/σ {number(after)} where the {replaces} has "
            f"{number(before)}, a change of {number(rise['value'])} "
            f"({number(rise['low'])} to {number(rise['high'])})"
        )
        block = (row["source_correlation"] or {}).get("block", {}).get("value")
        if block is not None:
            place = places(metrics)[0][1]
            text += f"; source correlation {number(block)} in {place}, the ceiling for this release"
        (kept if stays else changed).append(text + ".")
    return kept, changed


def _broken_control(metrics: Mapping[str, Any], holds: bool) -> list[str]:
    if holds:
        return []
    found = sigma_text(metrics["verdicts"]["reference"]["significance"])
    return [
        f"The control fails: real events differ from other real events by {found}. The target's "
        "splits are not alike, and no other significance here can be trusted."
    ]


def _findings(verdict: Mapping[str, Any]) -> list[str]:
    clear = [found for found in verdict["findings"] if found["significance"] > CLEAR]
    texts = [f"{sigma_text(found['significance'])} in {found['name']}." for found in clear[:N_TOLD]]
    if verdict["n_clear"] > N_TOLD:
        texts.append(
            f"{verdict['n_clear']:,} of {verdict['n_tests']:,} tests are beyond {CLEAR:g} σ; the "
            f"table has the {len(verdict['findings'])} most extreme."
        )
    return texts


def _two_sample(metrics: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    passed, failed = [], []
    tests = metrics["rows"]["translated"]["two_sample"]
    for key, what in (("features", "observables"), ("cells", "cells")):
        test = tests[key]
        if test is None:
            continue
        error = auc_error(test)
        value = f"AUC {number(test['auc'])} ± {number(error)}"
        if test["auc"] - 0.5 <= AUC_ERRORS * error:
            passed.append(f"A classifier on {what} does no better than chance: {value}.")
        else:
            failed.append(f"A classifier on {what} tells the samples apart: {value}.")
    return passed, failed


def _observables(metrics: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    by_standing: dict[Standing, list[str]] = {"reference": [], "nearer": [], "farther": []}
    for name, found in standings(metrics).items():
        if found in by_standing:
            by_standing[found].append(name)
    n = sum(map(len, by_standing.values()))
    near, far = [], []
    if names := by_standing["reference"]:
        near.append(
            f"W1/σ reaches the reference in {len(names)} of {n} observables: {', '.join(names)}."
        )
    if names := by_standing["nearer"]:
        far.append(
            f"W1/σ is nearer than the source's but above the reference in {len(names)} of {n} "
            f"observables: {', '.join(names)}."
        )
    if names := by_standing["farther"]:
        far.append(
            f"W1/σ is above the source's in {len(names)} of {n} observables: {', '.join(names)}."
        )
    return near, far


def _source_correlation(metrics: Mapping[str, Any]) -> list[str]:
    found = metrics["rows"]["translated"]["source_correlation"]
    if found is None or found["block"]["value"] is None:
        return []
    text = (
        "Translated events remain their source events: correlation "
        f"{number(found['block']['value'])} in {places(metrics)[0][1]}"
    )
    if found["cell"]["value"] is not None:
        text += f", {number(found['cell']['value'])} in cells"
    null = metrics["controls"]["null_source_correlation_block"]
    if null is not None and null["value"] is not None:
        text += f"; with other events' sources {number(null['value'])}"
    return [text + "."]


def _frechet(metrics: Mapping[str, Any]) -> list[str]:
    reference, after = (metrics["rows"][row]["fpd"] for row in ("reference", "translated"))
    if reference is None or after is None or reference["value"] is None or after["value"] is None:
        return []
    near = FRECHET_RATIO * max(after["value"], after["error"])
    if reference["value"] <= near < (reference.get("highest") or 0.0):
        return [
            f"FPD and KPD: one sample of real events is far from the target "
            f"({number(reference['highest'])}), since a few extreme events drive a covariance; the "
            "reference is the median over its samples."
        ]
    if reference["value"] <= near:
        return []
    return [
        f"FPD and KPD: real against other real events are farther ({number(reference['value'])}) "
        f"than translated ones ({number(after['value'])}). That happens where a few extreme "
        "events drive a covariance; rank nothing by them."
    ]
