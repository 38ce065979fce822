"""Checks of one sample by itself."""

from __future__ import annotations

from pileupgen.calo.geometry import Grid
from pileupgen.samples.cards import DataCard
from pileupgen.samples.checks.card import check_card
from pileupgen.samples.checks.energies import check_energies, check_layers, check_silent_cells
from pileupgen.samples.checks.finding import Finding
from pileupgen.samples.checks.numbers import check_mu, check_sentinels, check_weights
from pileupgen.samples.checks.places import check_places, check_silence
from pileupgen.samples.summary import IngestSummary


def check_sample(
    summary: IngestSummary, card: DataCard, grid: Grid, where: str = ""
) -> list[Finding]:
    """Check one sample by itself.

    Parameters
    ----------
    where : str
        What the sample is called in messages; its card's name if not given.
    """
    where = where or f"card '{card.name}'"
    found = [*check_card(card, where), *check_weights(summary, summary.census, card, where)]
    found += check_sentinels(summary.census, card, where)
    found += check_mu(summary, summary.census, where)
    if grid.units is None:
        found += check_places(summary.census, card, where)
        found += check_layers(summary.census, grid, where)
        found += check_energies(summary, summary.census, card, grid, where)
        found += check_silence(summary.census, grid, where)
        found += check_silent_cells(summary, where)
    if summary.census.n_duplicates:
        found.append(
            Finding(
                "duplicates",
                f"{where}: {summary.census.n_duplicates:,} of {summary.n_events:,} events repeat "
                "another one in every ring",
                "If a file was given twice or events were copied, leave the copies out: intervals "
                "would come out too narrow.",
            )
        )
    return found
