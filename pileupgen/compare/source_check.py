"""The source events of a translation beside those of the training, as its store tells."""

from __future__ import annotations

import math

from pileupgen.compare.records import SourceCheck
from pileupgen.diffusion.source_summary import RangeSummary, SampleCheck
from pileupgen.samples.store import ImageStore


def source_check(translated: ImageStore) -> SourceCheck | None:
    """Sum up a translated store's columns, a source event once; None where it has none."""
    columns = translated.columns
    if "unlike" not in columns:
        return None
    is_first = (columns["draw"] == 0) & (columns["member"] == 0)
    found = RangeSummary.of({name: values[is_first] for name, values in columns.items()})
    told = translated.provenance.get("sample_check")
    sample = None if told is None else SampleCheck.from_dict(told)
    return SourceCheck(
        **found.to_dict(),
        significance=math.nan if sample is None else sample.significance,
        shifts=() if sample is None else sample.shifts,
        is_unlike=found.is_unlike or (sample is not None and sample.is_unlike),
    )
