"""Where to let go: how separable the domains are at each noise level.

E_MC[r] = 1 at every t, so the mean ratio says nothing; the spread of r does. AUC(t) is that of
held-out mc against data events, ESS(t) = (Σr)² / (N Σr²) over mc events.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pileupgen.diffusion.weights import effective_fraction
from pileupgen.errors import ConfigError


@dataclass(frozen=True)
class ReleaseScan:
    """Separability of noised mc and data latents over t, on held-out events.

    Attributes
    ----------
    t : list of int
        Timesteps.
    auc, auc_low, auc_high : list of float
        Area under the ROC curve of ln r with its 68 % bootstrap interval.
    ess : list of float
        Effective fraction of mc events weighted with r.
    spread : list of float
        Standard deviation of ln r over mc events.
    accuracy, cross_entropy : list of float
        Of s = r / (1 + r) as a classifier.
    n_mc, n_data : int
        Held-out events.
    """

    t: list[int]
    auc: list[float]
    auc_low: list[float]
    auc_high: list[float]
    ess: list[float]
    spread: list[float]
    accuracy: list[float]
    cross_entropy: list[float]
    n_mc: int
    n_data: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ReleaseScan:
        """Inverse of :meth:`to_dict`."""
        return cls(**values)

    def choose(self, tolerance: float) -> tuple[int, str]:
        """The earliest scanned t from which on AUC stays at or below ``tolerance``.

        Returns
        -------
        t : int
        reason : str
            One line that explains the choice.

        Raises
        ------
        ConfigError
            If AUC never falls that low.
        """
        above = np.flatnonzero(np.asarray(self.auc) > tolerance)
        first = 0 if len(above) == 0 else int(above[-1]) + 1
        if first >= len(self.t):
            raise ConfigError(
                f"The held-out AUC never falls to {tolerance}: it ends at {self.auc[-1]:.3f}.",
                "Give --t-release a number, or raise translate.auto_auc.",
            )
        reason = (
            f"t_release = {self.t[first]}: held-out AUC {self.auc[first]:.3f} "
            f"[{self.auc_low[first]:.3f}, {self.auc_high[first]:.3f}] ≤ {tolerance}, "
            f"{self.n_mc} mc and {self.n_data} data events, ESS {self.ess[first]:.2f}"
        )
        return self.t[first], reason


def auc(mc: NDArray[np.float64], data: NDArray[np.float64]) -> float:
    """Probability that a data event scores above an mc event (Mann & Whitney), ties half."""
    ranks = rankdata(np.concatenate([mc, data]))
    n_mc, n_data = len(mc), len(data)
    return float((ranks[n_mc:].sum() - n_data * (n_data + 1) / 2) / (n_mc * n_data))


def scan_release(
    times: list[int],
    log_ratios: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    seed: int,
    n_bootstrap: int = 100,
) -> ReleaseScan:
    """Summarise ln r of held-out events at each time.

    Parameters
    ----------
    times : list of int
    log_ratios : list of (mc, data) arrays, shapes (N,) and (M,)
        ln r(x_t, t) of mc and of data events.
    seed : int
        Of the bootstrap.
    n_bootstrap : int
    """
    rng = np.random.default_rng([seed, 4])
    rows: dict[str, list[float]] = {
        name: [] for name in ("auc", "auc_low", "auc_high", "ess", "spread", "accuracy", "bce")
    }
    for mc, data in log_ratios:
        draws = [
            auc(rng.choice(mc, len(mc)), rng.choice(data, len(data))) for _ in range(n_bootstrap)
        ]
        low, high = np.quantile(draws, [0.16, 0.84])
        losses = [np.logaddexp(0, mc).mean(), np.logaddexp(0, -data).mean()]
        values = {
            "auc": auc(mc, data),
            "auc_low": low,
            "auc_high": high,
            "ess": effective_fraction(mc),
            "spread": mc.std(),
            "accuracy": 0.5 * ((mc < 0).mean() + (data > 0).mean()),
            "bce": 0.5 * sum(losses),
        }
        for name, value in values.items():
            rows[name].append(float(value))
    n_mc, n_data = (len(sample) for sample in log_ratios[0])
    return ReleaseScan(
        t=times,
        auc=rows["auc"],
        auc_low=rows["auc_low"],
        auc_high=rows["auc_high"],
        ess=rows["ess"],
        spread=rows["spread"],
        accuracy=rows["accuracy"],
        cross_entropy=rows["bce"],
        n_mc=n_mc,
        n_data=n_data,
    )
