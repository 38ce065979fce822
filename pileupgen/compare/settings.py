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
        3,
        "bins in μ for which the headline numbers are repeated; 1 is off",
        option="--mu-bins",
        ge=1,
    )
    cells: bool = setting(
        False, "run the two-sample test on cells, by a neural network; takes minutes"
    )
    jets: bool = setting(False, "compare pileup jets; needs fastjet, which the extra 'jets' brings")
    weighted: bool = setting(
        False,
        "weight translated events by their release weights, not by those of their source events",
        option="--weighted/--unweighted",
    )
    ladder: bool = setting(
        False,
        "also compare translations of the same events that lack one part each: the network, the "
        "class switch, guidance …; takes minutes",
    )
