"""The numbers of a response card, fitted to towers that a detector recorded.

Simulated interactions leave energies in the cells; a card's numbers say what is measured of them.
The fit changes these numbers until what a recorded sample shows in single cells (spectra of both
layers, products of neighbours and of the layers) is what the simulation shows. It is the first and
interpretable part of a correction: what no card can describe is left to the translation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pileupgen.arrays import Floats
from pileupgen.errors import ImplausibleInputError
from pileupgen.progress import Advance, silent
from pileupgen.simulate.calorimeter import Calorimeter, TowerGrid
from pileupgen.simulate.cell_statistics import Statistics
from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.overlay import Overlay
from pileupgen.simulate.response import LAYERS, ResponseCard
from pileupgen.simulate.smooth_fit import SmoothFit, smooth_fit
from pileupgen.simulate.spec import SampleSpec

PARAMETERS: dict[str, tuple[tuple[str | int, ...], float, float, float]] = {
    "hadrons, part measured": (("hadrons", "measured"), 0.1, 1.0, 0.02),
    "hadrons, em part of it": (("hadrons", "em"), 0.0, 1.0, 0.02),
    "em stochastic term / √GeV": (("em", "resolution", 0, "s"), 0.0, 1.0, 0.02),
    "had constant term": (("had", "resolution", 0, "c"), 0.0, 0.5, 0.01),
    "had stochastic term / √GeV": (("had", "resolution", 0, "s"), 0.0, 2.0, 0.04),
    "em leakage": (("em", "leakage", "fraction"), 0.0, 0.5, 0.02),
    "had leakage": (("had", "leakage", "fraction"), 0.0, 0.5, 0.02),
    "em noise / GeV": (("em", "electronic_noise", "sigma"), 0.0, 1.0, 0.03),
    "had noise / GeV": (("had", "electronic_noise", "sigma"), 0.0, 1.0, 0.02),
}
"""What is fitted: place in the card, least and largest value, and step of the derivatives."""

THRESHOLDS = ("em threshold / GeV", "had threshold / GeV")
"""Read off the recorded cells: χ² is not smooth in them."""

SQUARED = tuple(name for name in PARAMETERS if "term" in name or "noise" in name)
"""Parameters whose squares are fitted: variances are linear in these."""

DETECTOR_STREAM = 3
"""Part of an event's seed: the same for all values of the parameters."""
ROUNDS = 2
"""Refinements, each around the minimum of the one before."""
TINY = 1e-6
"""Stands for zero where a zero would switch off random numbers that other values draw."""


@dataclass(frozen=True)
class FittedNumber:
    """A number of the card.

    Attributes
    ----------
    start, value, error : float
        Where the fit began, what it found, and the statistical error by the slope at the minimum;
        the error is infinite where the recorded sample does not depend on the number.
    profile : tuple of two floats, optional
        Distances down and up to where χ² is greater by 1, the other numbers fitted again: infinite
        where it does not rise so far, and to the number's bound where that is met before. None if
        the fit was not refined.
    """

    start: float
    value: float
    error: float
    profile: tuple[float, float] | None = None


@dataclass(frozen=True)
class ResponseFit:
    """A fitted card.

    Attributes
    ----------
    card : ResponseCard
        The card that was begun with, with the fitted numbers in it.
    numbers : dict of str to FittedNumber
        By parameter, see ``PARAMETERS``.
    chi2_start, chi2 : float
        Before and after the fit.
    n_statistics : int
        Numbers that χ² is summed over.
    abs_eta_max : float
        Cells up to this |η| were looked at.
    """

    card: ResponseCard
    numbers: dict[str, FittedNumber]
    chi2_start: float
    chi2: float
    n_statistics: int
    abs_eta_max: float


class CellDeposits:
    """Energies that the interactions of some events leave in the cells, before any detector.

    Parameters
    ----------
    spec : SampleSpec
        How many interactions an event has, and the seed.
    card : ResponseCard
        Field, towers, beam spot, and energy fractions of all but generic hadrons.

    Attributes
    ----------
    hadrons : float32 array, shape (n_events, n_cells)
        Energy of generic hadrons in GeV, to be shared out.
    others : float32 array, shape (n_events, 2, n_cells)
        Energy of all other particles in GeV, shared out as the card says.
    """

    def __init__(
        self,
        spec: SampleSpec,
        pool: Interactions,
        card: ResponseCard,
        n_events: int,
        advance: Advance = silent,
    ) -> None:
        nothing = dict.fromkeys(card.energy_fractions, (0.0, 0.0))
        hadrons = Overlay(spec, pool, _changed(card, energy_fractions={**nothing, 0: (1.0, 0.0)}))
        rest = {**card.energy_fractions, 0: (0.0, 0.0)}
        others = Overlay(spec, pool, _changed(card, energy_fractions=rest))
        first, second = [], []
        for event in range(n_events):
            pileup = hadrons.draw(event)
            first.append(hadrons.deposit(event, pileup)[0].astype(np.float32))
            second.append(others.deposit(event, pileup).astype(np.float32))
            advance(1, "deposits")
        self.hadrons = np.array(first)
        self.others = np.array(second)

    def __len__(self) -> int:
        return len(self.hadrons)

    def measured(self, card: ResponseCard, seed: int) -> Floats:
        """What a card measures of them, shape ``(n_events, 2, n_cells)``, GeV.

        The random numbers of an event are the same for every card.
        """
        calorimeter = Calorimeter(card)
        em, had = card.energy_fractions[0]
        shares = np.array([[em], [had]])
        measured = []
        for event, (hadrons, others) in enumerate(zip(self.hadrons, self.others, strict=True)):
            rng = np.random.default_rng([seed, DETECTOR_STREAM, event])
            measured.append(calorimeter.measure(others + shares * hadrons, rng))
        return np.array(measured)


def fit_response(
    card: ResponseCard,
    deposits: CellDeposits,
    recorded: Floats,
    *,
    fixed: Sequence[str] = (),
    seed: int = 1,
    n_steps: int = 8,
    refined: bool = True,
    advance: Advance = silent,
) -> ResponseFit:
    """Fit a card's numbers to a recorded sample.

    χ² = rᵀ V⁻¹ r, where r is the difference of the mean statistics of recorded and of simulated
    events and V its covariance, from the events of both; its inverse is made unbiased (Hartlap et
    al., astro-ph/0608064, eq. 17). It is minimised by Levenberg's and Marquardt's steps, with
    derivatives from simulations with the same random numbers, and then refined. Thresholds are the
    smallest recorded energies, unless the card's cut on significance lies there. The errors are
    statistical: those of both samples, if generator and number of interactions are right.

    Parameters
    ----------
    card : ResponseCard
        Where the fit begins.
    deposits : CellDeposits
        Interactions as many as the recorded events have.
    recorded : float64 array, shape (n_events, 2, n_cells)
        See :func:`recorded_cells`.
    n_steps : int
        Steps at most.
    refined : bool
        Then find the minimum of a smooth χ², see :func:`smooth_fit`, which has intervals, too;
        takes two to three times as long.

    Returns
    -------
    ResponseFit

    Raises
    ------
    ImplausibleInputError
        If there are too few events, or a layer has hardly any energy.
    """
    names = [name for name in PARAMETERS if name not in fixed]
    power = np.array([2 if name in SQUARED else 1 for name in names])
    low = np.array([max(PARAMETERS[name][1], TINY) for name in names]) ** power
    high = np.array([PARAMETERS[name][2] for name in names]) ** power
    step = np.array([PARAMETERS[name][3] for name in names])
    first_terms = [layer.resolution[0].abs_eta_max for layer in card.layers]
    grid = TowerGrid(card.ring_edges(), card.ring_n_phi())
    abs_eta_max = min(*first_terms, float(card.ring_edges()[-1]))
    statistics = Statistics(grid, abs_eta_max, recorded)
    aim = statistics(recorded)
    begun, thresholds = _with_thresholds(card, statistics, fixed)
    if min(len(aim), len(deposits)) < 5 * aim.shape[1]:
        raise ImplausibleInputError(
            f"{len(aim)} recorded and {len(deposits)} simulated events are too few to tell how "
            f"{aim.shape[1]} numbers of an event fluctuate together.",
            f"Take {5 * aim.shape[1]} or more of each.",
        )

    def simulated(point: Floats) -> Floats:
        changed = _at(begun, names, point ** (1 / power))
        return statistics(deposits.measured(changed, seed))

    def chi2(found: Floats, weight: Floats) -> float:
        residual = aim.mean(axis=0) - found.mean(axis=0)
        return float(residual @ weight @ residual)

    start = np.array([_get(card, PARAMETERS[name][0]) for name in names])
    now = statistics(deposits.measured(card, seed))
    chi2_start = chi2(now, _inverse_covariance(aim, now))
    point = np.clip(np.maximum(start, step) ** power, low, high)
    now = simulated(point)
    slope = np.zeros((aim.shape[1], len(names)))
    damping = 1e-2
    for _ in range(n_steps):
        weight = _inverse_covariance(aim, now)
        cost = chi2(now, weight)
        for i in range(len(names)):
            there = point.copy()
            there[i] = (point[i] ** (1 / power[i]) + step[i]) ** power[i]
            if there[i] > high[i]:
                there[i] = (point[i] ** (1 / power[i]) - step[i]) ** power[i]
            slope[:, i] = (simulated(there) - now).mean(axis=0) / (there[i] - point[i])
        gradient = slope.T @ weight @ (aim.mean(axis=0) - now.mean(axis=0))
        curvature = slope.T @ weight @ slope
        before = point
        while np.all(point == before) and damping < 1e4:
            damped = curvature + damping * np.diag(np.diag(curvature) + 1e-12)
            there = np.clip(point + np.linalg.solve(damped, gradient), low, high)
            found = simulated(there)
            # Each with its own covariance, so that no step can win by fluctuating more.
            if chi2(found, weight) < cost and chi2(found, _inverse_covariance(aim, found)) < cost:
                point, now = there, found
                damping *= 0.2
            else:
                damping *= 5.0
        advance(1, f"χ² {chi2(now, weight):.0f}")
        if np.max(np.abs(point ** (1 / power) - before ** (1 / power)) / step) < 0.02:
            break
    weight = _inverse_covariance(aim, now)
    fit, covariance = _by_slope(point, slope.T @ weight @ slope)
    for number in range(ROUNDS if refined else 0):
        fit, covariance = smooth_fit(
            lambda there: simulated(there).mean(axis=0),
            aim.mean(axis=0),
            weight,
            fit,
            covariance,
            (low, high),
            number,
        )
        now = simulated(fit.point)
        weight = _inverse_covariance(aim, now)
        advance(1, f"χ² {chi2(now, weight):.0f}")

    def number_at(ends: Floats) -> Floats:
        """Numbers as they are in the card; infinities stay."""
        return np.where(np.isfinite(ends), np.maximum(ends, 0.0) ** (1 / power), ends)

    value = number_at(fit.point)
    # Upwards: of a squared number near zero the error is no small part of it.
    error = number_at(fit.point + fit.error) - value
    down, up = value - number_at(fit.point - fit.down), number_at(fit.point + fit.up) - value
    numbers = {
        name: FittedNumber(
            float(start[i]),
            float(value[i]),
            float(error[i]),
            (float(down[i]), float(up[i])) if refined else None,
        )
        for i, name in enumerate(names)
    }
    return ResponseFit(
        card=_at(begun, names, value),
        numbers={**thresholds, **numbers},
        chi2_start=chi2_start,
        chi2=chi2(now, weight),
        n_statistics=aim.shape[1],
        abs_eta_max=abs_eta_max,
    )


def _with_thresholds(
    card: ResponseCard, statistics: Statistics, fixed: Sequence[str]
) -> tuple[ResponseCard, dict[str, FittedNumber]]:
    """The card with the smallest recorded energies as thresholds."""
    plain, found = card.model_dump(), {}
    energies = np.linspace(0.01, 20, 2000)
    for layer, name in enumerate(THRESHOLDS):
        response = card.layers[layer]
        term = response.resolution[0]
        sigma = np.sqrt((term.c * energies) ** 2 + term.s**2 * energies + term.n**2)
        passed = energies[energies >= response.significance_min * sigma]
        by_significance = float(passed[0]) if len(passed) else np.inf
        least, next_least = statistics.least[layer]
        if name in fixed:
            continue
        if least > 1.1 * by_significance:
            plain[LAYERS[layer]]["energy_min"] = float(least)
            number = FittedNumber(response.energy_min, float(least), float(next_least - least))
        else:
            number = FittedNumber(response.energy_min, response.energy_min, np.inf)
        found[name] = number
    return ResponseCard.model_validate(plain), found


def _inverse_covariance(recorded: Floats, simulated: Floats) -> Floats:
    """V⁻¹ of the difference of the means of two samples of events."""
    total = np.cov(recorded.T) / len(recorded) + np.cov(simulated.T) / len(simulated)
    scale = np.sqrt(np.maximum(np.diag(total), 1e-12))
    inverse = np.linalg.pinv(total / np.outer(scale, scale), rcond=1e-9)
    n, n_statistics = min(len(recorded), len(simulated)), len(total)
    return np.asarray((n - n_statistics - 2) / (n - 1) * inverse / np.outer(scale, scale))


def _by_slope(point: Floats, curvature: Floats) -> tuple[SmoothFit, Floats]:
    """Give errors by the slope, infinite where nothing depends on a number, and the covariance."""
    known = np.diag(curvature) > 1e-9 * np.diag(curvature).max()
    covariance = np.zeros_like(curvature)
    covariance[np.ix_(known, known)] = np.linalg.pinv(curvature[np.ix_(known, known)])
    error = np.where(known, np.sqrt(np.maximum(np.diag(covariance), 0.0)), np.inf)
    return SmoothFit(point, error, error, error), covariance


def _get(card: ResponseCard, path: tuple[str | int, ...]) -> float:
    value: Any = _plain(card)
    for key in path:
        value = value[key]
    return float(value)


def _at(card: ResponseCard, names: Sequence[str], point: Floats) -> ResponseCard:
    """The card with other numbers."""
    plain = _plain(card)
    for name, number in zip(names, point, strict=True):
        *path, last = PARAMETERS[name][0]
        place: Any = plain
        for key in path:
            place = place[key]
        place[last] = float(number)
    hadrons = plain.pop("hadrons")
    em, measured = hadrons["em"], hadrons["measured"]
    plain["energy_fractions"][0] = (em * measured, (1 - em) * measured)
    return ResponseCard.model_validate(plain)


def _plain(card: ResponseCard) -> dict[str, Any]:
    """The card's values, with those of generic hadrons as part measured and em part of that."""
    em, had = card.energy_fractions[0]
    hadrons = {"measured": em + had, "em": em / (em + had) if em + had > 0 else 0.0}
    return {**card.model_dump(), "hadrons": hadrons}


def _changed(card: ResponseCard, **values: Any) -> ResponseCard:
    return card.model_copy(update=values)
