"""The stationary Gaussian field: the closed-form part of denoising.

A ring is uniform in φ, so the covariance of latents is block-diagonal in the φ frequency k. For a
Gaussian field with covariance C the best denoiser is linear and known; the network only has to
learn what is not Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pileupgen.models.networks.layers import patchify, unpatchify
from pileupgen.models.saved import ModelMixin, register_to_config
from pileupgen.parallel.threads import Map

RANGES = (1.0, 1.5, 2.5, 4.0, 8.0, float("inf"))
"""Correlation ranges tried, in latent positions; the held-out likelihood decides."""
N_LONG_FREQUENCIES, N_LONG_MODES = 4, 2
"""Leading modes of the lowest φ frequencies that are kept whole: the event's overall scale."""


class RingModes:
    """Fourier coordinates of latents along φ.

    What is linear and uniform in φ is a matrix for each frequency in them.

    Parameters
    ----------
    n_channels, height, width : int
        Shape (C, H, W) of the latents; W is the φ axis, periodic.
    patch : (int, int)
        Latents are patches of p × q finer positions with C / pq channels; (1, 1) takes them as
        they are. The attributes of the same names are those of the finer positions.
    """

    def __init__(self, n_channels: int, height: int, width: int, patch: tuple[int, int]) -> None:
        self.patch = (int(patch[0]), int(patch[1]))
        self.n_channels = n_channels // (self.patch[0] * self.patch[1])
        self.height, self.width = height * self.patch[0], width * self.patch[1]
        self.basis, self.frequency = _real_fourier(self.width)
        """Columns of cos and sin, float64, (W, W), and the frequency of each, (W,)."""

    @property
    def n_rows(self) -> int:
        """C·H, the rows and columns of a frequency's matrix."""
        return self.n_channels * self.height

    @property
    def n_frequencies(self) -> int:
        """W//2 + 1."""
        return self.width // 2 + 1

    @property
    def cosines(self) -> list[int]:
        """Column of the basis with the cosine of each frequency."""
        return [max(0, 2 * k - 1) for k in range(self.n_frequencies)]

    def coordinates(self, x: Tensor) -> Tensor:
        """Latents (N, C, H, W) to coordinates (W, N, C·H)."""
        return self.of_cells(unpatchify(x, self.patch))

    def of_cells(self, fine: Tensor) -> Tensor:
        """:meth:`coordinates` of latents that are taken apart into finer positions already."""
        # Products whose layout is the next one's: copies cost more than they do.
        flat = self.basis.to(fine).T @ fine.reshape(-1, self.width).T
        return flat.view(self.width, fine.shape[0], -1)

    def times(self, coordinates: Tensor, matrices: Tensor) -> Tensor:
        """Coordinates (W, N, C·H), those of each frequency times its matrix.

        Cosines and sines of a frequency lie together, so that no matrix is copied for either.

        Parameters
        ----------
        matrices : Tensor, shape (W//2 + 1, C·H, C·H)
        """
        n, n_pairs = coordinates.shape[1], (self.width - 1) // 2
        pairs = coordinates[1 : 1 + 2 * n_pairs].reshape(n_pairs, 2 * n, self.n_rows)
        both = torch.bmm(pairs, matrices[1 : 1 + n_pairs]).view(2 * n_pairs, n, self.n_rows)
        parts = [torch.bmm(coordinates[:1], matrices[:1]), both]
        if self.width % 2 == 0:
            parts.append(torch.bmm(coordinates[-1:], matrices[-1:]))
        return torch.cat(parts)

    def latents(self, coordinates: Tensor) -> Tensor:
        """Inverse of :meth:`coordinates`."""
        flat = coordinates.reshape(self.width, -1).T @ self.basis.to(coordinates).T
        return patchify(flat.view(-1, self.n_channels, self.height, self.width), self.patch)

    def constant(self, values: Tensor) -> Tensor:
        """Coordinates (W, 1, C·H) of values (C·H) that are constant in φ: all in k = 0."""
        out = torch.zeros(self.width, 1, len(values), dtype=values.dtype, device=values.device)
        out[0, 0] = values * self.width**0.5
        return out


class StationaryField(ModelMixin):
    """Gaussian fields of mc, data and both together, uniform in φ.

    Parameters
    ----------
    n_channels, height, width : int
        Shape (C, H, W) of the latents; W is the φ axis, periodic.
    patch : (int, int)
        Latents are patches of p × q finer positions with C / pq channels; the field lives there,
        so that distances are right. (1, 1) takes latents as they are.

    Attributes
    ----------
    mean : Tensor, shape (3, C·H)
        Mean latent of mc, data and the pooled domains; C, H, W are the finer positions' from here.
    eigenvalues : Tensor, shape (3, W, C·H)
        λ of the covariance at the frequency of each column of ``basis``.
    eigenvectors : Tensor, shape (3, W//2 + 1, C·H, C·H)
        Columns are eigenvectors.
    """

    @register_to_config
    def __init__(
        self, n_channels: int, height: int, width: int, patch: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.modes = RingModes(n_channels, height, width, patch)
        self.patch = self.modes.patch
        n, n_k = self.modes.n_rows, self.modes.n_frequencies
        self.n_channels, self.height = self.modes.n_channels, self.modes.height
        self.width = self.modes.width
        self.mean: Tensor
        self.eigenvalues: Tensor
        self.eigenvectors: Tensor
        self.correlation_range: Tensor
        self.register_buffer("mean", torch.zeros(3, n))
        self.register_buffer("eigenvalues", torch.ones(3, self.width, n))
        self.register_buffer("eigenvectors", torch.eye(n).repeat(3, n_k, 1, 1))
        self.register_buffer("correlation_range", torch.zeros(3))

    # -- fitting ---------------------------------------------------------------------------------

    @torch.no_grad()
    def fit(
        self,
        latents: Sequence[Tensor],
        mirror_eta: bool = False,
        has_pooled: bool = True,
        over: Map = map,
    ) -> None:
        """Estimate mean and covariance per domain and for both together.

        The empirical covariance less its leading long-range modes is tapered with distance
        (localisation, as data assimilation calls it); the range is the one with the best Gaussian
        score on every fifth event, which the estimate does not see.

        Parameters
        ----------
        latents : two Tensors, shape (N, C, H, W)
            Training latents of mc and of data.
        mirror_eta : bool
            Count each event also mirrored in η.
        has_pooled : bool
            Whether the domains together are fitted, too.
        """
        samples = list(latents)
        if has_pooled:
            first, second = latents
            samples.append(torch.cat([first[: len(second)], second[: len(first)]]))

        def fit_one(index: int) -> None:
            fine = unpatchify(samples[index], self.patch)
            self._fit_one(index, torch.cat([fine, fine.flip(2)]) if mirror_eta else fine)

        list(over(fit_one, range(len(samples))))

    def _fit_one(self, index: int, sample: Tensor) -> None:
        if len(sample) == 1:
            # One event serves for the fit and for its check.
            sample = sample.repeat(2, 1, 1, 1)
        held_out = torch.arange(len(sample)) % 5 == 0
        mean = sample.double().mean(dim=(0, 3)).flatten()
        coordinates = self.modes.of_cells(sample.double()) - self.modes.constant(mean)
        fitted = self._covariance(coordinates[:, ~held_out])
        judged = self._covariance(coordinates[:, held_out])
        scores = [_log_likelihood(self._taper(fitted, reach), judged) for reach in RANGES]
        best = int(np.argmax(scores))
        covariance = self._taper(self._covariance(coordinates), RANGES[best])
        values, vectors = torch.linalg.eigh(covariance)
        self.mean[index] = mean.float()
        self.eigenvectors[index] = vectors.float()
        self.eigenvalues[index] = values.clamp_min(1e-4).float()[self.modes.frequency]
        self.correlation_range[index] = RANGES[best]

    def _covariance(self, coordinates: Tensor) -> Tensor:
        """Covariance per frequency, shape (W//2 + 1, CH, CH), from coordinates (W, N, CH)."""
        n_k = self.width // 2 + 1
        product = torch.einsum("wna,wnb->wab", coordinates, coordinates) / coordinates.shape[1]
        total = torch.zeros(n_k, *product.shape[1:], dtype=product.dtype)
        total.index_add_(0, self.modes.frequency, product)
        count = torch.bincount(self.modes.frequency, minlength=n_k).to(product)
        return total / count[:, None, None]

    def _taper(self, covariance: Tensor, reach: float) -> Tensor:
        """Multiply the covariance in real space, long modes apart, by exp(−distance²/2·reach²)."""
        if not np.isfinite(reach):
            return covariance
        long = torch.zeros_like(covariance)
        values, vectors = torch.linalg.eigh(covariance[:N_LONG_FREQUENCIES])
        top = vectors[..., -N_LONG_MODES:]
        excess = (values[:, None, -N_LONG_MODES:] - 1).clamp_min(0)
        long[:N_LONG_FREQUENCIES] = (top * excess) @ top.transpose(1, 2)
        k = torch.arange(self.width // 2 + 1, dtype=torch.float64)
        delta = torch.arange(self.width, dtype=torch.float64)
        weight = torch.where((k == 0) | (2 * k == self.width), 1.0, 2.0) / self.width
        cosine = torch.cos(2 * np.pi * k[:, None] * delta[None] / self.width)
        real = torch.einsum("kd,kab->dab", weight[:, None] * cosine, covariance - long)
        ring = torch.minimum(delta, self.width - delta)
        row = torch.arange(self.height, dtype=torch.float64).repeat(self.n_channels)
        distance2 = ring[:, None, None] ** 2 + (row[:, None] - row[None]) ** 2
        tapered = real * torch.exp(-0.5 * distance2 / reach**2)
        return long + torch.einsum("dk,dab->kab", cosine.T, tapered)

    # -- applying --------------------------------------------------------------------------------

    def velocity(self, x_t: Tensor, alpha: Tensor, sigma: Tensor, label: int | Tensor) -> Tensor:
        """E[v | x_t] of the Gaussian field, v = α ε − σ z (Salimans & Ho 2202.00512).

        In eigen-coordinates c of the centred field, with x_t = α z + σ ε and α² + σ² = 1,
        E[v] = α σ (1 − λ) c / (α² λ + σ²), to which a mean m adds −σ m (c counts from α m).

        Parameters
        ----------
        x_t : Tensor, shape (N, C, H, W)
        alpha, sigma : Tensor, shape (N,)
            √ᾱ_t and √(1 − ᾱ_t).
        label : int, or int64 Tensor of shape () or (N,)
            0 mc, 1 data, 2 both together.

        Returns
        -------
        Tensor, shape (N, C, H, W)
        """
        coordinates = self.modes.coordinates(x_t)
        if isinstance(label, int) or label.dim() == 0:
            return self.modes.latents(self._velocity(coordinates, alpha, sigma, label))
        found = torch.empty_like(coordinates)
        for value in torch.unique(label).tolist():
            rows = torch.nonzero(label == value).squeeze(1)
            own = coordinates[:, rows], alpha[rows], sigma[rows]
            found[:, rows] = self._velocity(*own, int(value))
        return self.modes.latents(found)

    def velocity_contrast(
        self, x_t: Tensor, alpha: Tensor, sigma: Tensor, label: int, other: int
    ) -> Tensor:
        """:meth:`velocity` with one label less that with another, (N, C, H, W)."""
        coordinates = self.modes.coordinates(x_t)
        of_class, of_other = (
            self._velocity(coordinates, alpha, sigma, which) for which in (label, other)
        )
        return self.modes.latents(of_class - of_other)

    def _velocity(
        self, coordinates: Tensor, alpha: Tensor, sigma: Tensor, label: int | Tensor
    ) -> Tensor:
        a, s = alpha[None, :, None].to(coordinates), sigma[None, :, None].to(coordinates)
        vectors = self.eigenvectors[label].to(coordinates)
        mean = self.modes.constant(self.mean[label].to(coordinates))
        values = self.eigenvalues[label].to(coordinates)[:, None]
        centred = self.modes.times(coordinates - a * mean, vectors)
        centred = centred * (a * s * (1 - values) / (a**2 * values + s**2))
        return self.modes.times(centred, vectors.transpose(1, 2)) - s * mean

    def covariance(self, label: int) -> Tensor:
        """Covariance of each φ frequency, float64, (W//2 + 1, C·H, C·H)."""
        vectors = self.eigenvectors[label].double()
        values = self.eigenvalues[label, self.modes.cosines].double()
        product: Tensor = (vectors * values[:, None]) @ vectors.transpose(1, 2)
        return product

    def transport(self, source: int, target: int) -> Tensor:
        """The Wasserstein-optimal linear map between two of the fields, per φ frequency.

        A = C_s^(−1/2) (C_s^(1/2) C_t C_s^(1/2))^(1/2) C_s^(−1/2) for N(m_s, C_s) to N(m_t, C_t)
        (Dowson & Landau 1982): x goes to m_t + A (x − m_s).

        Returns
        -------
        Tensor, shape (W//2 + 1, C·H, C·H), float64
        """
        return linear_map(self.covariance(source), self.covariance(target))

    def move(self, latents: Tensor, maps: Tensor, source: int, target: int) -> Tensor:
        """Latents (N, C, H, W) from one field to another, m_t + A (x − m_s).

        Parameters
        ----------
        latents : Tensor, shape (N, C, H, W)
        maps : Tensor, shape (W//2 + 1, C·H, C·H)
            A of each φ frequency, of :meth:`transport`.
        source, target : int
            0 mc, 1 data, 2 both together.
        """
        coordinates = self.modes.coordinates(latents)
        before, after = (
            self.modes.constant(self.mean[label].to(coordinates)) for label in (source, target)
        )
        matrices = maps.to(coordinates).transpose(1, 2)
        moved = self.modes.times(coordinates - before, matrices) + after
        return self.modes.latents(moved)

    def log_ratio(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Ln p_data(x_t) / p_mc(x_t) of the two Gaussian fields.

        Each ln p is a sum over all W·C·H coordinates, thousands of times as large as the ratio, so
        that single precision would leave errors of 1e-3 that depend on how many events are taken
        together. It is computed in double precision throughout.

        Parameters
        ----------
        x_t : Tensor, shape (N, C, H, W)
        alpha, sigma : Tensor, shape (N,)
            √ᾱ_t and √(1 − ᾱ_t).

        Returns
        -------
        Tensor, shape (N,)
            In the latents' precision.
        """
        coordinates = self.modes.coordinates(x_t.double())
        a, s = alpha[None, :, None].double(), sigma[None, :, None].double()
        log_p = []
        for label in (0, 1):
            mean = self.modes.constant(self.mean[label].double())
            vectors = self.eigenvectors[label].double()
            centred = self.modes.times(coordinates - a * mean, vectors)
            variance = a**2 * self.eigenvalues[label].double()[:, None] + s**2
            log_p.append(-0.5 * (variance.log() + centred**2 / variance).sum(dim=(0, 2)))
        return (log_p[1] - log_p[0]).to(x_t.dtype)


def _real_fourier(width: int) -> tuple[Tensor, Tensor]:
    """Orthonormal real Fourier basis (W, W), columns cos and sin, and each column's frequency."""
    phi = torch.arange(width, dtype=torch.float64) * (2 * np.pi / width)
    columns, frequency = [torch.full((width,), width**-0.5, dtype=torch.float64)], [0]
    for k in range(1, width // 2 + 1):
        is_nyquist = 2 * k == width
        norm = (1.0 if is_nyquist else 2.0) ** 0.5 / width**0.5
        columns.append(torch.cos(k * phi) * norm)
        frequency.append(k)
        if not is_nyquist:
            columns.append(torch.sin(k * phi) * norm)
            frequency.append(k)
    return torch.stack(columns, dim=1), torch.tensor(frequency)


def linear_map(before: Tensor, after: Tensor) -> Tensor:
    """Give the linear map of least mean squared displacement between covariances (…, n, n)."""
    root, inverse = _power(before, 0.5), _power(before, -0.5)
    return inverse @ _power(root @ after @ root, 0.5) @ inverse


def _power(matrices: Tensor, power: float) -> Tensor:
    """Symmetric positive matrices (…, n, n) to a power."""
    values, vectors = torch.linalg.eigh(matrices)
    scaled = vectors * values.clamp_min(1e-12)[..., None, :] ** power
    return scaled @ vectors.transpose(-1, -2)


def _log_likelihood(model: Tensor, observed: Tensor) -> float:
    """−Σ_k (ln det C_k + tr C_k⁻¹ S_k), each frequency once; −∞ if C is not positive."""
    factor, info = torch.linalg.cholesky_ex(model)
    if bool(info.any()):
        return -float("inf")
    log_det = 2 * torch.diagonal(factor, dim1=1, dim2=2).log().sum()
    trace = torch.einsum("kii->", torch.cholesky_solve(observed, factor))
    return -float(log_det + trace)
