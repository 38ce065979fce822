"""How to compare: the section ``validate`` of the config, and options of the command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pileupgen.fields import SECTION, setting


@dataclass(frozen=True)
class ComparisonSettings:
    """How samples are compared."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SECTION

    n_bootstrap: int = setting(
        100, "bootstrap draws that intervals are made from", option="--bootstrap", ge=10
    )
    n_seeds: int = setting(
        3, "seeds of the two-sample test on observables", option="--test-seeds", ge=1
    )
    n_mu_bins: int = setting(
        3, "bins in μ that the headline is repeated in; 1 is off", option="--mu-bins", ge=1
    )
    cells: bool = setting(
        False, "make the two-sample test on cells with a network, which takes minutes"
    )
    jets: bool = setting(False, "compare pileup jets; needs fastjet, which the extra 'jets' brings")
    weighted: bool = setting(
        False,
        "weigh translated events by their release weights, else as their source events",
        option="--weighted/--unweighted",
    )
    ladder: bool = setting(
        False,
        "compare with translations that lack the network, the class switch, guidance …, of the "
        "same events, which takes minutes",
    )
