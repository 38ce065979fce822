"""Two samples side by side, before translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pileupgen.cli.ui.console import console, warn

if TYPE_CHECKING:
    from pileupgen.run import RunDirectory
    from pileupgen.samples.ingest import IngestSummary

DOMAINS = ("mc", "data")
MU_ALARM = 1e-3
"""Kolmogorov-Smirnov p-value below which two μ profiles are called different."""


def show_comparison(
    run: RunDirectory, summaries: Mapping[str, IngestSummary], *, is_matched: bool = False
) -> None:
    """Show both domains side by side, and warn if their pileup differs.

    Parameters
    ----------
    run : RunDirectory
        Has both stores.
    summaries : mapping
        What went into each.
    is_matched : bool
        Whether their μ profiles were made alike.
    """
    from rich.table import Table

    table = Table(title="before translation", title_justify="left", title_style="bold")
    table.add_column("")
    for domain in DOMAINS:
        table.add_column(domain, justify="right")
    columns = [_numbers(summaries[domain]) for domain in DOMAINS]
    for label in dict.fromkeys(key for column in columns for key in column):
        table.add_row(label, *(column.get(label, "") for column in columns))
    console.print(table)
    _warn_of_silence(summaries)
    is_features = any(summary.units for summary in summaries.values())
    known = all(summary.mean_mu == summary.mean_mu for summary in summaries.values())
    if not is_matched and (known or not is_features):
        _compare_mu(run, summaries)


def _numbers(summary: IngestSummary) -> dict[str, str]:
    return _of_features(summary) if summary.units else _of_images(summary)


def _of_features(summary: IngestSummary) -> dict[str, str]:
    rows = {"events": f"{summary.n_events:,}"}
    if summary.mean_mu == summary.mean_mu:
        rows["⟨μ⟩ ± sd"] = f"{summary.mean_mu:.2f} ± {summary.sd_mu:.2f}"
    for name, unit, mean, sd in zip(
        summary.layers, summary.units, summary.energy, summary.sd, strict=True
    ):
        rows[f"{name} / {unit}" if unit else name] = f"{mean:.4g} ± {sd:.4g}"
    if summary.skipped:
        rows["files skipped"] = f"{len(summary.skipped):,}"
    return rows


def _of_images(summary: IngestSummary) -> dict[str, str]:
    total, outside = sum(summary.energy), sum(summary.energy_outside)
    mu = f"{summary.mean_mu:.2f} ± {summary.sd_mu:.2f}"
    error = summary.sd_sum_et / summary.n_events**0.5
    rows = {
        "events": f"{summary.n_events:,}",
        "⟨μ⟩ ± sd": "unknown" if summary.mean_mu != summary.mean_mu else mu,
        "⟨ΣE_T⟩ / GeV": f"{summary.mean_sum_et:.1f} ± {error:.1f}",
    }
    if "em" in summary.layers and total > 0:
        rows["EM fraction"] = f"{summary.energy[summary.layers.index('em')] / total:.4f}"
    for layer, occupancy in zip(summary.layers, summary.occupancy, strict=True):
        rows[f"occupancy {layer}"] = f"{occupancy:.4f}"
    for layer, fraction in zip(summary.layers, summary.suppressed, strict=True):
        if fraction > 0:
            rows[f"cells suppressed {layer}"] = f"{fraction:.2%}"
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


def _warn_of_silence(summaries: Mapping[str, IngestSummary]) -> None:
    """Say where cells never fire that the geometry does not call dead."""
    for domain, summary in summaries.items():
        if any(summary.n_silent):
            n, places = sum(summary.n_silent), list(summary.silent_places)
            where = "; ".join([*places, "…"] if n > len(places) else places)
            warn(
                f"cells of {domain} that never fire though others of their ring do: {n:,} "
                f"({where}); where data's are dead, translation leaves them empty; dead_regions "
                "in the geometry takes them out in both domains"
            )


def _compare_mu(run: RunDirectory, summaries: Mapping[str, IngestSummary]) -> None:
    import numpy as np
    from scipy.stats import ks_2samp

    from pileupgen.samples.store import ImageStore

    profiles = [ImageStore(run.images(domain)).columns["mu"] for domain in DOMAINS]
    known = [profile[np.isfinite(profile)] for profile in profiles]
    if not (len(known[0]) and len(known[1])):
        warn("μ is not known in both domains, so their pileup cannot be compared")
        return
    p_value = float(ks_2samp(known[0], known[1]).pvalue)
    if p_value < MU_ALARM:
        mc, data = (summaries[domain].mean_mu for domain in DOMAINS)
        warn(
            f"the μ profiles differ (⟨μ⟩ = {mc:.2f} and {data:.2f}, Kolmogorov-Smirnov "
            f"p = {p_value:.1e}): this is no effect of the detector, yet it would be learned; "
            "--match-mu resample gives mc the profile of data"
        )
