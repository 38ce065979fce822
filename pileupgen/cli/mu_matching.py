"""`pileupgen preprocess --match-mu`: mc takes the μ profile of data."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from pileupgen.cli.ui.console import console, warn

if TYPE_CHECKING:
    from pileupgen.cli.ui.session import Session
    from pileupgen.samples.ingest import IngestSummary


class MuMatching(StrEnum):
    """How mc takes the μ profile of data."""

    reweight = "reweight"
    resample = "resample"


def match_to_data(session: Session, summary: IngestSummary, how: MuMatching) -> IngestSummary:
    """Give the store of mc the μ profile of data's.

    Parameters
    ----------
    session : Session
        Its run has both stores.
    summary : IngestSummary
        What went into the store of mc.
    how : MuMatching
        By weights, or by leaving out events.

    Returns
    -------
    IngestSummary
        Of the matched store.
    """
    from pileupgen.samples.match import match_mu

    found = match_mu(
        session.run.images("mc"),
        session.run.images("data"),
        "resample" if how is MuMatching.resample else "reweight",
        session.config.seed,
    )
    console.print(
        f"[bold]match[/]  mc to data by {how.value}: ⟨μ⟩ {summary.mean_mu:.2f} → "
        f"{found.mean_mu:.2f}, {found.n_effective:,.0f} effective of {found.n_before:,} events",
        soft_wrap=True,
    )
    if found.uncovered > 0:
        warn(f"{found.uncovered:.1%} of data has a μ that mc does not have")
    return replace(
        summary,
        n_events=found.n_events,
        energy=found.energy,
        occupancy=found.occupancy,
        mean_sum_et=found.mean_sum_et,
        sd_sum_et=found.sd_sum_et,
        mean_mu=found.mean_mu,
        sd_mu=found.sd_mu,
    )
