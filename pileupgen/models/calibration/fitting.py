"""The fit of a calibration to training events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.models.calibration.mu_law import fit_null_rate
from pileupgen.models.calibration.quantile_fit import (
    NO_THRESHOLD,
    condition_bins,
    find_alive,
    find_threshold,
    fit_knots,
    mu_binning,
)
from pileupgen.models.calibration.tails import (
    Spectrum,
    fit_lower,
    fit_upper,
    in_agreement,
    no_lines,
)
from pileupgen.models.calibration.ties import find_ties
from pileupgen.samples.weights import rows_by_weight

if TYPE_CHECKING:
    from pileupgen.models.calibration.calibration import CellCalibration

MIN_MASS = 1e-6
"""Smallest probability of a hit."""
_SUPPRESSED = 0.01
"""A layer with more than this fraction of null cells, among the cells that ever have energy, has a
threshold, if its smallest hits show one.
"""


class CalibrationFit:
    """Fills the tables of a calibration from training events.

    Parameters
    ----------
    calibration : CellCalibration
        Its buffers are written.
    excluded : bool array, shape (L, n_eta, n_phi)
        Cells that are dead in both domains, whatever the events show.
    """

    def __init__(self, calibration: CellCalibration, excluded: Flags) -> None:
        self._of, self._excluded = calibration, excluded
        self._n_hits = np.zeros((2, *calibration.table_shape))

    def __call__(
        self,
        energies: Sequence[NDArray[np.float32]],
        mus: Sequence[NDArray[np.float32]],
        weights: Sequence[Floats] | None = None,
    ) -> None:
        """Fit; see :meth:`~pileupgen.models.calibration.calibration.CellCalibration.fit`."""
        edges, centres = mu_binning(mus, self._of.n_mu_bins)
        self._of.mu_centres.copy_(torch.from_numpy(centres))
        known_mu = np.concatenate([np.asarray(mu)[np.isfinite(mu)] for mu in mus])
        if len(known_mu):
            self._of.mu_range.copy_(torch.tensor([known_mu.min(), known_mu.max()]))
        self._find_kind(energies)
        whole = energies
        if weights is not None:
            rows = [rows_by_weight(weight) for weight in weights]
            energies = [energy[chosen] for energy, chosen in zip(energies, rows, strict=True)]
            mus = [mu[chosen] for mu, chosen in zip(mus, rows, strict=True)]
        for domain, (energy, mu) in enumerate(zip(energies, mus, strict=True)):
            middle = float(self._of.mu_centres[self._of.n_mu_bins // 2])
            known = np.where(np.isfinite(mu), mu, middle)
            mu_bin = np.clip(
                np.searchsorted(edges, known, side="right") - 1, 0, self._of.n_mu_bins - 1
            )
            self._fit_domain(domain, energy, mu_bin)
            self._fit_range(domain, whole[domain])
        self._fit_lines()
        self._fit_mu_law()

    def _fit_mu_law(self) -> None:
        """Take how null masses go on in μ."""
        centres = self._of.mu_centres.double().numpy()
        rate = fit_null_rate(self._of.null_mass.double().numpy(), centres)
        self._of.null_rate.copy_(torch.from_numpy(rate))

    def _fit_range(self, domain: int, energy: NDArray[np.float32]) -> None:
        """Take the threshold and the largest energies of a domain."""
        for layer in range(self._of.n_layers):
            cells = energy[:, layer]
            is_discrete = self._of.n_ties > 0 and bool(
                torch.isfinite(self._of.ties[domain, layer]).any()
            )
            n_hits = np.count_nonzero(cells, axis=0)
            # Cells that the layer does not cover, or that are dead, show no suppression.
            n_hits = n_hits[n_hits > 0]
            is_suppressed = n_hits.sum() < (1 - _SUPPRESSED) * n_hits.size * len(cells)
            if is_suppressed and not is_discrete:
                lowest = find_threshold(cells)
                self._of.threshold[domain, layer] = lowest if lowest > NO_THRESHOLD else 0.0
            for row, table_ring in enumerate(self._of.ring.tolist()):
                found = float(np.abs(cells[:, row]).max())
                known = float(self._of.largest[domain, layer, table_ring])
                self._of.largest[domain, layer, table_ring] = max(found, known)

    def _fit_lines(self) -> None:
        """Take the lines beyond the ends of the quantiles from both domains' tables."""
        tables = [of.double().numpy() for of in (self._of.log_energy, self._of.null_mass)]
        below = self._of.negative_mass.double().numpy() if self._of.is_signed else 0 * tables[1]

        def spectrum(domain: int, layer: int, sign: int) -> Spectrum:
            knots = tables[0] if sign > 0 else self._of.log_negative.double().numpy()
            mass = 1 - tables[1] - below if sign > 0 else below
            n_hits = self._n_hits[0 if sign > 0 else 1, domain, layer]
            parts = knots[domain, layer], mass[domain, layer], n_hits
            return Spectrum(
                parts[0].reshape(-1, self._of.n_knots),
                np.maximum(parts[1].ravel(), 1e-12),
                parts[2].ravel(),
            )

        for layer in range(self._of.n_layers):
            upper = fit_upper((spectrum(0, layer, 1), spectrum(1, layer, 1)))
            lower = no_lines(len(upper))
            if self._of.is_signed:
                lower = fit_upper((spectrum(0, layer, -1), spectrum(1, layer, -1)))
            elif not tables[1][:, layer][self._n_hits[0, :, layer] > 0].any():
                lower = fit_lower((spectrum(0, layer, 1), spectrum(1, layer, 1)))
            for buffer, lines in ((self._of.upper_lines, upper), (self._of.lower_lines, lower)):
                shaped = lines.reshape(buffer[layer].shape)
                buffer[layer] = torch.from_numpy(in_agreement(shaped))

    def _find_kind(self, energies: Sequence[NDArray[np.float32]]) -> None:
        """Find out whether there are negative hits and tied values, and keep the latter."""
        ties = [
            [find_ties(energy[:, layer]) for layer in range(self._of.n_layers)]
            for energy in energies
        ]
        is_signed = any(bool(np.any(energy < 0)) for energy in energies)
        n_ties = max(len(found) for of_domain in ties for found in of_domain)
        self._of.make_room(is_signed, n_ties)
        self._of.register_to_config(is_signed=is_signed, n_ties=n_ties)
        for domain, of_domain in enumerate(ties):
            for layer, found in enumerate(of_domain):
                if len(found):
                    self._of.ties[domain, layer, : len(found)] = torch.from_numpy(found)

    def _fit_domain(
        self,
        domain: int,
        energy: NDArray[np.float32],
        mu_bin: Ints,
    ) -> None:
        alive = find_alive(energy) & ~self._excluded
        self._of.is_alive[domain] = torch.from_numpy(alive)
        ring = self._of.ring.numpy()
        for table_ring in range(self._of.log_energy.shape[2]):
            rows = np.flatnonzero(ring == table_ring)
            for mu in range(self._of.n_mu_bins):
                inside = mu_bin == mu
                # A bin without events of this domain, as where μ is not known: as all of them.
                cells = (energy[inside] if inside.any() else energy)[:, :, rows]
                used = np.broadcast_to(alive[:, rows], cells.shape)
                condition = np.zeros(cells[:, 0].shape, dtype=np.int64)
                for layer in reversed(range(self._of.n_layers)):
                    values = cells[:, layer]
                    for part in range(self._of.n_layer_bins):
                        chosen = values[(condition == part) & used[:, layer]]
                        if not len(chosen) or (part and not np.any(chosen != 0)):
                            # Too rare to have a table, or, where the layer before is never null,
                            # of no cell at all: as all cells of the ring.
                            chosen = values[used[:, layer]]
                        index = (domain, layer, table_ring, mu, part)
                        self._fit_table(index, chosen, values[used[:, layer]])
                    condition = condition_bins(
                        values, self._of.n_layer_bins - 1, has_ties=self._of.n_ties > 0
                    )

    def _fit_table(
        self, index: tuple[int, ...], values: NDArray[np.float32], ring: NDArray[np.float32]
    ) -> None:
        """Knots and masses from the values of a table; ``ring`` are those of all its tables."""
        positive, n = values[values > 0], max(len(values), 1)
        self._count_hits(index, values)
        if not self._of.is_signed:
            self._fit_knots(self._of.log_energy, index, positive)
            null = 1.0 - len(positive) / n
            self._of.null_mass[index] = float(np.clip(null, 0.0, 1.0 - MIN_MASS))
            return
        negative = -values[values < 0]
        # A table without hits of a sign is mixed with others that have some.
        above, below_zero = ring[ring > 0], -ring[ring < 0]
        lowest = find_threshold(ring)
        self._fit_knots(
            self._of.log_energy, index, positive if len(positive) else above, lowest=lowest
        )
        self._fit_knots(
            self._of.log_negative, index, negative if len(negative) else below_zero, lowest=lowest
        )
        below = float(np.clip(len(negative) / n, 0.0, 1.0 - MIN_MASS))
        null = (n - len(positive) - len(negative)) / n
        self._of.negative_mass[index] = below
        self._of.null_mass[index] = float(np.clip(null, 0.0, 1.0 - MIN_MASS - below))

    def _count_hits(self, index: tuple[int, ...], values: NDArray[np.float32]) -> None:
        """Count the hits of either sign that tell how a table goes on; none if the last is tied."""
        tied = self._of.ties[index[:2]][:, 0].numpy() if self._of.n_ties else np.empty(0)
        for which, sizes in enumerate((values[values > 0], -values[values < 0])):
            is_tied = len(sizes) > 0 and bool(np.any(np.abs(tied) == sizes.max()))
            self._n_hits[(which, *index)] = 0 if is_tied else len(sizes)

    def _fit_knots(
        self,
        table: Tensor,
        index: tuple[int, ...],
        sizes: NDArray[np.float32],
        lowest: float | None = None,
    ) -> None:
        tied = self._of.ties[index[:2]][:, 0].numpy() if self._of.n_ties else None
        if len(sizes):
            knots = fit_knots(sizes, self._of.n_knots, lowest=lowest, tied=tied)
            table[index] = torch.from_numpy(knots)
