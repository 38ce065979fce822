"""Profiles of the number of pileup interactions: from a file, a formula or a sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.errors import CardError, ConfigError

_POISSON_TAIL = 1e-9
"""Probability that is left out at either end of a Poisson profile."""


@dataclass(frozen=True)
class MuProfile:
    """Probability of μ in strata of width 1, each centred at a whole number."""

    mu: Ints
    """Centres, ascending. Shape (K,)."""
    probability: Floats
    """Adds up to 1. Shape (K,)."""

    @property
    def mean(self) -> float:
        """Mean of the centres."""
        return float(self.mu @ self.probability)

    @classmethod
    def of(cls, mu: NDArray[np.floating[Any]], weight: Floats) -> MuProfile:
        """Profile of events, those of unknown μ left out.

        Parameters
        ----------
        mu : float array, shape (N,)
            NaN where unknown.
        weight : float64 array, shape (N,)
            Not negative.

        Raises
        ------
        ConfigError
            If μ is not known of any event with a weight.
        """
        is_known = np.isfinite(mu) & (weight > 0)
        if not is_known.any():
            raise ConfigError(
                "μ is not known of any event, so there is no profile of it.",
                "Name it in the card's mu, or take the profile 'library'.",
            )
        centres, place = np.unique(strata(mu[is_known]), return_inverse=True)
        sums = np.bincount(place, weights=weight[is_known])
        return cls(centres, sums / sums.sum())

    @classmethod
    def flat(cls, low: float, high: float) -> MuProfile:
        """All whole numbers from ``low`` to ``high`` alike."""
        centres = np.arange(int(np.ceil(low)), int(np.floor(high)) + 1)
        return cls(centres, np.full(len(centres), 1 / len(centres)))

    @classmethod
    def poisson(cls, mean: float) -> MuProfile:
        """Poisson distribution."""
        # Most samples have no such profile, and each process that reads or simulates would wait.
        from scipy.stats import poisson

        ends = np.asarray(poisson.ppf([_POISSON_TAIL, 1 - _POISSON_TAIL], mean))
        centres = np.arange(int(max(ends[0], 0)), int(ends[1]) + 1)
        probability = poisson.pmf(centres, mean)
        return cls(centres, probability / probability.sum())

    @classmethod
    def histogram(cls, edges: Floats, content: Floats) -> MuProfile:
        """Share the content of bins out among the strata that they overlap.

        Parameters
        ----------
        edges : float64 array, shape (B + 1,)
            Ascending.
        content : float64 array, shape (B,)
            Not negative.
        """
        cumulative = np.concatenate([[0.0], np.cumsum(content)])
        centres = np.arange(int(strata(edges[:1])[0]), int(strata(edges[-1:])[0]) + 1)
        borders = np.append(centres - 0.5, centres[-1] + 0.5)
        probability = np.diff(np.interp(borders, edges, cumulative)) / cumulative[-1]
        kept = probability > 0
        return cls(centres[kept], probability[kept])


def strata(mu: NDArray[np.floating[Any]]) -> Ints:
    """Whole number whose stratum [n − ½, n + ½) holds each μ."""
    return np.floor(np.asarray(mu, dtype=np.float64) + 0.5).astype(np.int64)


def parse_mu_profile(text: str) -> MuProfile:
    """Read ``flat:LOW,HIGH``, ``poisson:MEAN``, or a file.

    A file is text with two columns (see :func:`read_mu_profile`), or a histogram in a ROOT file,
    ``FILE.root:NAME``.

    Raises
    ------
    ConfigError
        If it is none of these, or the numbers are no profile.
    CardError
        If a text file cannot be read.
    """
    kind, _, rest = text.partition(":")
    if kind in ("flat", "poisson"):
        numbers = _numbers(text, rest, 2 if kind == "flat" else 1)
        if min(numbers) < 0 or max(numbers) > 1000 or numbers[-1] < numbers[0]:
            raise ConfigError(f"{text}: μ lies within 0 … 1000, in ascending order.")
        if kind == "flat" and np.floor(numbers[1]) < np.ceil(numbers[0]):
            raise ConfigError(f"{text} holds no whole number.", "Try flat:20,80.")
        return MuProfile.flat(*numbers) if kind == "flat" else MuProfile.poisson(*numbers)
    path, dot_root, name = text.partition(".root:")
    if dot_root:
        return _read_histogram(Path(f"{path}.root"), name)
    if not Path(text).is_file():
        raise ConfigError(
            f"No μ profile '{text}': neither a formula nor a file.",
            "Give library, flat:LOW,HIGH, poisson:MEAN, a text file of two columns, "
            "FILE.root:HISTOGRAM, or a sample's store.",
        )
    points = np.array(read_mu_profile(Path(text)), dtype=np.float64).reshape(-1, 2)
    if not len(points) or not np.all(points >= 0) or not 0 < points[:, 1].sum() < np.inf:
        raise ConfigError(f"{text} is no profile: it needs numbers ≥ 0 that are not all zero.")
    return MuProfile.of(points[:, 0], points[:, 1])


def _numbers(text: str, rest: str, n: int) -> list[float]:
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != n or not np.all(np.isfinite(numbers)):
        raise ConfigError(f"'{text}' is no μ profile.", "Try flat:20,80 or poisson:60.")
    return numbers


def _read_histogram(path: Path, name: str) -> MuProfile:
    import uproot

    try:
        with uproot.open(path) as file:
            content, edges = file[name].to_numpy()
    except Exception as error:
        raise ConfigError(
            f"{path} has no histogram '{name}' that can be read: {error}".splitlines()[0],
            "Give FILE.root:NAME of a TH1.",
        ) from error
    content = np.asarray(content, dtype=np.float64)
    if content.ndim != 1 or not np.all(content >= 0) or content.sum() <= 0 or edges[0] < 0:
        raise ConfigError(f"{path}:{name} is no profile: one axis from 0 on, contents ≥ 0.")
    return MuProfile.histogram(np.asarray(edges, dtype=np.float64), content)


def read_mu_profile(path: Path) -> tuple[tuple[float, float], ...]:
    """Read ``mu, probability`` from a text file.

    Columns are parted by commas, semicolons, tabs or spaces; ``#`` begins a comment; one heading
    line is skipped.

    Raises
    ------
    CardError
        If the file is missing or a line does not hold two numbers.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(
            f"mu_profile: cannot read {path}: {error}.", "Give a two-column text file."
        ) from error
    rows: list[tuple[float, float]] = []
    seen_text = False
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        try:
            mu, probability = (float(word) for word in words)
        except ValueError:
            if not seen_text and not rows:
                seen_text = True
                continue
            raise CardError(
                f"mu_profile: {path}, line {number}: '{line.strip()}' is not two numbers.",
                "Each line holds mu and its probability.",
            ) from None
        rows.append((mu, probability))
    return tuple(rows)
