"""Choice of the release: how separable the domains are at each noise level.

E_MC[r] = 1 at every t, so the mean ratio says nothing; the spread of r does. AUC(t) is that of
held-out mc against data events, ESS(t) = (Σr)² / (N Σr²) and std(ln r) are over mc events. For two
unit Gaussians a distance d apart they are Φ(d/√2), exp(−d²) and d.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from pileupgen.arrays import Floats
from pileupgen.diffusion.settings import RatioCriterion
from pileupgen.diffusion.weights import effective_fractions
from pileupgen.errors import ConfigError, UnreadableInputError
from pileupgen.fields import PlainRecord

TOLERANCES: dict[RatioCriterion, float] = {"auc": 0.55, "ess": 0.95, "spread": 0.2}
"""Default of each criterion; all three are d ≈ 0.2 for unit Gaussians a distance d apart."""
NAMES: dict[RatioCriterion, str] = {"auc": "AUC", "ess": "ESS", "spread": "std(ln r)"}


@dataclass(frozen=True)
class ReleaseChoice:
    """A chosen release and why."""

    t: int
    """First timestep from which on the criterion's value is within its tolerance."""
    t_low: int
    t_high: int | None
    """The same for the ends of the value's 68 % interval; None where the far end never is."""
    by: RatioCriterion
    tolerance: float
    value: float
    low: float
    high: float
    """The criterion at t with its interval."""
    n_mc: int
    n_data: int
    """Held-out events of either domain."""

    @property
    def reason(self) -> str:
        """One line that explains the choice."""
        sign = "≥" if self.by == "ess" else "≤"
        beyond = "never" if self.t_high is None else str(self.t_high)
        return (
            f"t_release = {self.t} [{self.t_low}, {beyond}]: held-out {NAMES[self.by]} "
            f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] {sign} {self.tolerance:g} from "
            f"here on, {self.n_mc} mc and {self.n_data} data events"
        )


@dataclass(frozen=True)
class ReleaseScan(PlainRecord):
    """Separability of held-out events over the noise level, one number a time in every list."""

    t: list[int]
    """Timesteps, ascending."""
    auc: list[float]
    auc_low: list[float]
    auc_high: list[float]
    """Area under the ROC curve of ln r with its 68 % bootstrap interval."""
    ess: list[float]
    ess_low: list[float]
    ess_high: list[float]
    """Effective fraction of mc events weighted with r."""
    spread: list[float]
    spread_low: list[float]
    spread_high: list[float]
    """Standard deviation of ln r over mc events."""
    accuracy: list[float]
    cross_entropy: list[float]
    """Accuracy and cross-entropy of s = r / (1 + r) as a classifier."""
    n_mc: int
    n_data: int
    """Held-out events of either domain."""

    def __post_init__(self) -> None:
        lengths = {len(values) for values in vars(self).values() if isinstance(values, list)}
        if len(lengths) != 1 or not self.t:
            raise ValueError("its lists are empty or not of one length")

    @classmethod
    def read(cls, path: Path) -> ReleaseScan:
        """Read the ``release.json`` of a model.

        Raises
        ------
        UnreadableInputError
            If it is damaged.
        """
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UnreadableInputError(
                f"{path} cannot be read: {error}.", "Train the ratio again."
            ) from error

    def curve(self, by: RatioCriterion) -> tuple[list[float], list[float], list[float]]:
        """A criterion over t with its interval."""
        return {
            "auc": (self.auc, self.auc_low, self.auc_high),
            "ess": (self.ess, self.ess_low, self.ess_high),
            "spread": (self.spread, self.spread_low, self.spread_high),
        }[by]

    def choose(self, tolerance: float | None = None, by: RatioCriterion = "auc") -> ReleaseChoice:
        """The earliest scanned t from which on a criterion stays within its tolerance.

        Parameters
        ----------
        tolerance : float or None
            AUC and std(ln r) at most, ESS at least; None takes ``TOLERANCES``.
        by : str
            ``auc``, ``ess`` or ``spread``.

        Raises
        ------
        ConfigError
            If the criterion is never within it.
        """
        limit = TOLERANCES[by] if tolerance is None else tolerance
        value, low, high = self.curve(by)
        good, poor = (high, low) if by == "ess" else (low, high)
        first = _first_within(value, limit, by)
        if first is None:
            verb = "rises" if by == "ess" else "falls"
            raise ConfigError(
                f"The held-out {NAMES[by]} never {verb} to {limit:g}: it ends at {value[-1]:.3f}.",
                "Give --t-release a number, or loosen --tolerance.",
            )
        earliest, latest = _first_within(good, limit, by), _first_within(poor, limit, by)
        return ReleaseChoice(
            t=self.t[first],
            t_low=self.t[first if earliest is None else earliest],
            t_high=None if latest is None else self.t[latest],
            by=by,
            tolerance=limit,
            value=value[first],
            low=low[first],
            high=high[first],
            n_mc=self.n_mc,
            n_data=self.n_data,
        )


def _first_within(values: list[float], limit: float, by: RatioCriterion) -> int | None:
    curve = np.asarray(values)
    outside = np.flatnonzero(curve < limit if by == "ess" else curve > limit)
    first = 0 if len(outside) == 0 else int(outside[-1]) + 1
    return first if first < len(values) else None


def auc(mc: Floats, data: Floats) -> float:
    """Probability that a data event scores above an mc event (Mann & Whitney), ties half."""
    return float(_aucs(mc, data))


def _aucs(mc: Floats, data: Floats) -> Floats:
    """:func:`auc` of the events along the last axis, for each of the others."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([mc, data], axis=-1), axis=-1)
    n_mc, n_data = mc.shape[-1], data.shape[-1]
    above = ranks[..., n_mc:].sum(axis=-1) - n_data * (n_data + 1) / 2
    return np.asarray(above / (n_mc * n_data))


def scan_release(
    times: list[int],
    log_ratios: list[tuple[Floats, Floats]],
    seed: int,
    n_bootstrap: int = 100,
) -> ReleaseScan:
    """Summarise ln r of held-out events at each time.

    Parameters
    ----------
    log_ratios : list of (mc, data) arrays, shapes (N,) and (M,)
        ln r(x_t, t) of mc and of data events.
    seed : int
        Seed of the bootstrap.
    """
    rng = np.random.default_rng([seed, 4])
    rows: dict[str, list[float]] = {}
    for mc, data in log_ratios:
        # As they are first, then resampled.
        drawn = ((rng.choice(mc, len(mc)), rng.choice(data, len(data))) for _ in range(n_bootstrap))
        pairs = [(mc, data), *drawn]
        found = _criteria(*(np.stack(part) for part in zip(*pairs, strict=True)))
        values = {name: value[0] for name, value in found.items()}
        for name, value in found.items():
            low, high = np.quantile(value[1:], [0.16, 0.84])
            values[f"{name}_low"] = min(low, values[name])
            values[f"{name}_high"] = max(high, values[name])
        values["accuracy"] = 0.5 * ((mc < 0).mean() + (data > 0).mean())
        losses = [np.logaddexp(0, mc).mean(), np.logaddexp(0, -data).mean()]
        values["cross_entropy"] = 0.5 * sum(losses)
        for name, number in values.items():
            rows.setdefault(name, []).append(float(number))
    n_mc, n_data = (len(sample) for sample in log_ratios[0])
    return ReleaseScan(t=times, n_mc=n_mc, n_data=n_data, **rows)


def _criteria(mc: Floats, data: Floats) -> dict[str, Floats]:
    """Criteria of draws (1 + B, N) and (1 + B, M) of events, one number a draw."""
    aucs, ess = _aucs(mc, data), effective_fractions(mc)
    return {"auc": aucs, "ess": ess, "spread": mc.std(axis=-1)}
