"""Modes that a release cannot reach: the common scale of an event, mapped in closed form.

Noise at a release removes of a Gaussian mode of variance λ the part σ²/(α²λ + σ²) of what differs
between two domains. Of modes whose variance is far above that of the noise, such as the energy of
an event as a whole, hardly anything is removed, with guidance or without.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pileupgen.models.field import N_LONG_FREQUENCIES, N_LONG_MODES, StationaryField, linear_map

LEAST_SIGNAL = 4.0
"""α²λ/σ² of a mode from which on a release removes a fifth of the difference or less."""


class CommonModes:
    """Leading modes of the lowest φ frequencies, and their optimal linear map between two fields.

    Parameters
    ----------
    field : StationaryField
    source, target : int
        0 mc, 1 data.
    alpha, sigma : float
        √ᾱ_t and √(1 − ᾱ_t) of the release. Of the modes that may be taken, those with
        α²λ ≥ 4 σ² are, λ being the mean variance of the two fields.

    Attributes
    ----------
    n_modes : int
        Number of modes that are taken, those of one frequency counted once.
    """

    def __init__(
        self, field: StationaryField, source: int, target: int, alpha: float, sigma: float
    ) -> None:
        self._field, self._source, self._alpha = field, source, alpha
        # Small matrices in double precision; they go to the device of the latents when used.
        before, after = (field.covariance(label).cpu() for label in (source, target))
        _, vectors = torch.linalg.eigh((before + after)[:N_LONG_FREQUENCIES])
        self._maps = torch.eye(field.modes.n_rows, dtype=torch.float64).repeat(len(before), 1, 1)
        self._forms = torch.zeros_like(self._maps)
        self._log_determinants = 0.0
        self.n_modes = 0
        for k, leading in enumerate(vectors[..., -N_LONG_MODES:]):
            variance = ((before[k] + after[k]) @ leading * leading).sum(0) / 2
            chosen = leading[:, alpha**2 * variance >= LEAST_SIGNAL * sigma**2]
            n = chosen.shape[1]
            self.n_modes += n
            if n == 0:
                continue
            own, wanted = (chosen.T @ covariance[k] @ chosen for covariance in (before, after))
            one = torch.eye(n, dtype=torch.float64)
            self._maps[k] += chosen @ (linear_map(own, wanted) - one) @ chosen.T
            noised = [alpha**2 * covariance + sigma**2 * one for covariance in (wanted, own)]
            inverse, other = (torch.linalg.inv(covariance) for covariance in noised)
            self._forms[k] = chosen @ (inverse - other) @ chosen.T
            n_columns = int((field.modes.frequency == k).sum())
            of_target, of_source = (torch.logdet(covariance) for covariance in noised)
            self._log_determinants += n_columns * float(of_target - of_source)

    def move(self, latents: Tensor) -> Tensor:
        """Latents (N, C, H, W) with these modes spread as the target's; all else, and means, stay.

        The map within the modes is that of least mean squared displacement, see
        :meth:`StationaryField.transport`.
        """
        return self._field.move(latents, self._maps, self._source, self._source)

    def log_ratio(self, x_t: Tensor) -> Tensor:
        """What these modes add to ln p_target/p_source at the release, float64, shape (N,).

        Moved events have the target's spread there, so that their density ratio is that of the
        source less this.
        """
        modes = self._field.modes
        mean = modes.constant(self._field.mean[self._source].to(x_t).double())
        centred = modes.coordinates(x_t.double()) - self._alpha * mean
        distance = (modes.times(centred, self._forms.to(centred)) * centred).sum(dim=(0, 2))
        return -0.5 * (distance + self._log_determinants)
