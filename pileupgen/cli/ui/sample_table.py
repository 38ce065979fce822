"""Two samples side by side, before translation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from pileupgen.cli.ui.console import console

if TYPE_CHECKING:
    from pileupgen.samples.ingest import IngestSummary

DOMAINS = ("mc", "data")
CONDITION = "mean of the card's mu ± sd"
"""What it is where events are no pileup: an incident energy, a jet's p_T."""
MOST_FEATURES = 24
"""Features that are shown: a table of jets' constituents has three a constituent."""


def show_comparison(summaries: Mapping[str, IngestSummary], zero_suppression: float) -> None:
    """Show both domains side by side.

    Parameters
    ----------
    zero_suppression : float
        Threshold in GeV that both were cut at.
    """
    from rich.table import Table

    table = Table(title="before translation", title_justify="left", title_style="bold")
    table.add_column("")
    for domain in DOMAINS:
        table.add_column(domain, justify="right")
    columns = [_numbers(summaries[domain], zero_suppression) for domain in DOMAINS]
    for label in dict.fromkeys(key for column in columns for key in column):
        table.add_row(label, *(column.get(label, "") for column in columns))
    console.print(table)


def _numbers(summary: IngestSummary, zero_suppression: float) -> dict[str, str]:
    if summary.units:
        return _of_features(summary)
    return _of_images(summary, zero_suppression)


def _of_features(summary: IngestSummary) -> dict[str, str]:
    rows = {"events": f"{summary.n_events:,}", **_of_weights(summary)}
    if summary.mean_mu == summary.mean_mu:
        rows[CONDITION] = _mu(summary)
    features = zip(summary.layers, summary.units, summary.energy, summary.sd, strict=True)
    for name, unit, mean, sd in islice(features, MOST_FEATURES):
        rows[f"{name} / {unit}" if unit else name] = f"{mean:.4g} ± {sd:.4g}"
    if (n_more := len(summary.layers) - MOST_FEATURES) > 0:
        rows[f"and {n_more} more features"] = ""
    if summary.skipped:
        rows["files skipped"] = f"{len(summary.skipped):,}"
    return rows


def _of_images(summary: IngestSummary, zero_suppression: float) -> dict[str, str]:
    total, outside = sum(summary.energy), sum(summary.energy_outside)
    rows = {"events": f"{summary.n_events:,}", **_of_weights(summary)}
    error = summary.sd_sum_et / max(summary.census.n_effective, 1) ** 0.5
    condition, name = ("⟨μ⟩ ± sd", "ΣE_T") if summary.is_transverse else (CONDITION, "ΣE")
    rows |= {
        condition: "unknown" if summary.mean_mu != summary.mean_mu else _mu(summary),
        f"⟨{name}⟩ / GeV": f"{summary.mean_sum_et:.1f} ± {error:.1f}",
    }
    if "em" in summary.layers and total > 0:
        rows["EM fraction"] = f"{summary.energy[summary.layers.index('em')] / total:.4f}"
    for layer, occupancy in zip(summary.layers, summary.occupancy, strict=True):
        rows[f"occupancy {layer}"] = f"{occupancy:.4f}"
    for layer, fraction in zip(summary.layers, summary.suppressed, strict=True):
        if fraction > 0:
            rows[f"cells suppressed {layer}"] = f"{fraction:.2%}"
    rows |= _below_zero(summary)
    if zero_suppression > 0:
        taken = sum(summary.energy_suppressed)
        label = f"energy suppressed below {zero_suppression:g} GeV"
        rows[label] = f"{taken / (total + taken):.2%}" if total + taken > 0 else "none"
    else:
        rows["zero suppression"] = "none"
    for layer, n_dead in zip(summary.layers, summary.n_dead, strict=False):
        if n_dead:
            rows[f"dead cells {layer}, by the geometry"] = f"{n_dead:,}"
    for layer, n_silent in zip(summary.layers, summary.n_silent, strict=False):
        if n_silent:
            rows[f"cells {layer} that never fire"] = f"{n_silent:,}"
    if total + outside > 0:
        rows["energy outside the grid"] = f"{outside / (total + outside):.1%}"
    if summary.n_shared:
        rows["towers shared by cells"] = f"{summary.n_shared / summary.n_towers:.2%}"
    if summary.skipped:
        rows["files skipped"] = f"{len(summary.skipped):,}"
    return rows


def _below_zero(summary: IngestSummary) -> dict[str, str]:
    """Parts of the energy below 0, in samples that have any: those of signed energies."""
    towers = summary.census.towers
    return {
        f"energy below 0 {layer}": f"{below / total:.2%} of Σ|E|"
        for layer, below, total in zip(towers.layers, towers.negative, towers.absolute, strict=True)
        if below > 0
    }


def _of_weights(summary: IngestSummary) -> dict[str, str]:
    """What events are worth, where their weights differ."""
    census = summary.census
    if not census.is_weighted:
        return {}
    rows = {"events by weight, effective": f"{census.n_effective:,.0f}"}
    if census.n_negative_weights:
        share = 0.5 * (1 - census.weight_sum / census.weight_sum_abs)
        rows["events of weight below 0"] = f"{census.n_negative_weights:,}, {share:.2%} of Σ|w|"
    return rows


def _mu(summary: IngestSummary) -> str:
    text = ".2f" if summary.mean_mu < 1e6 else ".4g"
    return f"{summary.mean_mu:{text}} ± {summary.sd_mu:{text}}"
