"""Effects of pileup on an analysis: densities, offsets, resolutions, tails, growth with μ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pileupgen.arrays import Floats, quotient
from pileupgen.calo.geometry import Grid
from pileupgen.compare.distances import weighted_std
from pileupgen.compare.records import Quantity
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.measure.bootstrap import Estimate, estimate, resample
from pileupgen.measure.pileup_jets import JetSample
from pileupgen.measure.regions import Cones
from pileupgen.measure.sample import Sample

TAIL = 0.05
"""Fraction of the target's events in an occupancy's tail."""


def pileup_quantities(samples: Samples, draws: Draws) -> tuple[Quantity, ...]:
    """Measure target, source and translated.

    ``rho``, ``rho_resolution``
        Mean ρ, and its spread about its straight line in μ over the mean (about the mean where μ
        is unknown).
    ``rho_slope``, ``et_density_slope``
        Growth with μ of ρ, and of ΣE_T per unit area in η-φ.
    ``cone_offset``, ``cone_sigma``
        Mean and standard deviation of E_T in the random cone less ρ times its area: bias and
        fluctuation of the area-based pileup subtraction (0707.1378).
    ``met_sigma``, ``met_stochastic``
        Standard deviation of a component of the missing E_T, and this over √⟨ΣE_T⟩.
    ``occupancy_tail_<layer>``
        Fraction of events with more hits than 95 % of the target's have.
    """
    roles = {
        "target": (samples.target, draws.target),
        "source": (samples.source, draws.rows["source"][0]),
        "translated": (samples.translated, draws.rows["translated"][0]),
    }
    has_mu = all(varies_in_mu(sample) for sample, _ in roles.values())
    found: dict[str, tuple[str, str, dict[str, Estimate]]] = {}
    for role, (sample, counts) in roles.items():
        for name, label, unit, values in measured(sample, counts, samples.target, has_mu):
            entry = found.setdefault(name, (label, unit, {}))
            entry[2][role] = estimate(float(values[0]), values[1:])
    return tuple(
        Quantity(name=name, label=label, unit=unit, values=values)
        for name, (label, unit, values) in found.items()
    )


def cone_residual(sample: Sample) -> Floats:
    """E_T in the random cone less ρ times its area in GeV, shape ``(N,)``."""
    area = np.pi * Cones(sample.grid).radius ** 2
    return sample.observables["cone_et"] - sample.observables["rho"] * area


def acceptance_area(grid: Grid) -> float:
    """Area of the grid in η-φ."""
    return (grid.eta_edges[-1] - grid.eta_edges[0]) * (grid.phi_max - grid.phi_min)


def varies_in_mu(sample: Sample) -> bool:
    """Whether every event's μ is known, and not all have the same."""
    return bool(np.isfinite(sample.mu).all() and np.ptp(sample.mu) > 0)


def measured(
    sample: Sample, counts: Floats, target: Sample, has_mu: bool
) -> Iterator[tuple[str, str, str, Floats]]:
    """Name, label, unit and values (1 + B,) of each quantity of :func:`pileup_quantities`.

    Parameters
    ----------
    counts : float64 array, shape (n, 1 + B)
        Weights of its events, resampled but for the first column.
    target : Sample
        Whose occupancies define the tails.
    """
    values = sample.observables
    rho, area = values["rho"], acceptance_area(sample.grid)
    mean_rho = _mean(rho, counts)
    yield "rho", r"$\langle\rho\rangle$", "GeV", mean_rho
    if has_mu:
        mu = sample.mu.astype(np.float64)
        slope, spread = line_in(mu, rho, counts)
        label = r"$\sigma(\rho\,|\,\mu)/\langle\rho\rangle$"
        yield "rho_resolution", label, "", quotient(spread, mean_rho, np.nan)
        yield "rho_slope", r"$d\rho/d\mu$", "GeV", slope
        slope, _ = line_in(mu, values["sum_et"] / area, counts)
        yield "et_density_slope", r"$d(\Sigma E_T/A)/d\mu$", "GeV", slope
    else:
        resolution = quotient(weighted_std(rho, counts), mean_rho, np.nan)
        yield "rho_resolution", r"$\sigma(\rho)/\langle\rho\rangle$", "", resolution
    residual = cone_residual(sample)
    yield (
        "cone_offset",
        r"$\langle E_T^\mathrm{cone} - \rho A\rangle$",
        "GeV",
        _mean(residual, counts),
    )
    yield (
        "cone_sigma",
        r"$\sigma(E_T^\mathrm{cone} - \rho A)$",
        "GeV",
        weighted_std(residual, counts),
    )
    if "met_x" in values:
        squares = np.square(values["met_x"]) + np.square(values["met_y"])
        sigma = np.sqrt(0.5 * _mean(squares, counts))
        yield "met_sigma", r"$\sigma(E_{x,y}^\mathrm{miss})$", "GeV", sigma
        root = np.sqrt(np.maximum(_mean(values["sum_et"], counts), 0.0))
        label = r"$\sigma(E_{x,y}^\mathrm{miss})\,\langle\Sigma E_T\rangle^{\mathrm{-1/2}}$"
        yield "met_stochastic", label, "√GeV", quotient(sigma, root, np.nan)
    for layer in sample.grid.layers:
        name = f"occupancy_{layer}"
        limit = np.quantile(target.observables[name], 1.0 - TAIL)
        above = (values[name] > limit).astype(np.float64)
        yield f"occupancy_tail_{layer}", f"tail of occupancy, {layer}", "", _mean(above, counts)


def line_in(mu: Floats, y: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Slope of the straight line in μ and the spread about it, for each column of counts.

    Parameters
    ----------
    mu, y : float64 arrays, shape (n,)
        Abscissa and ordinate.
    counts : float64 array, shape (n, 1 + B)
        Weights.

    Returns
    -------
    slope, spread : float64 arrays, shape (1 + B,)
        NaN where μ does not vary.
    """
    x = mu - mu.mean()
    z = y - y.mean()
    total = counts.sum(axis=0)
    mx, mz = x @ counts / total, z @ counts / total
    var_x = np.square(x) @ counts / total - mx**2
    cov = (x * z) @ counts / total - mx * mz
    var_z = np.square(z) @ counts / total - mz**2
    slope = quotient(cov, var_x, np.nan)
    return slope, np.sqrt(np.maximum(var_z - slope * cov, 0.0))


def _mean(x: Floats, counts: Floats) -> Floats:
    return np.asarray(x @ counts / counts.sum(axis=0))


def jet_quantities(jets: Sequence[JetSample], n_bootstrap: int, seed: int) -> tuple[Quantity, ...]:
    """Mean multiplicity and mean p_T of pileup jets, with bootstrap intervals over events.

    Parameters
    ----------
    jets : sequence of JetSample
        Target, source and translated.
    """
    numbers: dict[str, Estimate] = {}
    means: dict[str, Estimate] = {}
    for sample in jets:
        n_events = len(sample.n_jets)
        drawn = resample(n_events, n_bootstrap, np.random.default_rng([seed, 5]))
        counts = np.concatenate([np.ones((n_events, 1)), drawn], axis=1) * sample.weight[:, None]
        total = np.bincount(sample.event, weights=sample.pt, minlength=n_events) @ counts
        n_jets = sample.n_jets @ counts
        multiplicity = n_jets / counts.sum(axis=0)
        mean = quotient(total, n_jets, np.nan)
        numbers[sample.name] = estimate(float(multiplicity[0]), multiplicity[1:], 0.0)
        means[sample.name] = estimate(float(mean[0]), mean[1:])
    return (
        Quantity(name="n_jets", label="pileup jets per event", unit="", values=numbers),
        Quantity(
            name="jet_pt",
            label=r"$\langle p_T^\mathrm{jet} - \rho A\rangle$",
            unit="GeV",
            values=means,
        ),
    )
