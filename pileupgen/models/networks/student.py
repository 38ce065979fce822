"""The student: one network evaluation in the place of a solver's many."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pileupgen.models.field import RingModes
from pileupgen.models.networks.layers import ConditionEmbedding, patchify, unpatchify
from pileupgen.models.networks.local import LocalLayers
from pileupgen.models.saved import ModelMixin, register_to_config

RELEASE, END = 0, 1
"""What is known of an event in closed form: its latents at the release, and at the clean end."""


class Student(ModelMixin, LocalLayers):
    """What a deterministic translation makes of an event's latents, in one evaluation.

    Without the teacher's network the translation is an affine map of the latents, and of the noise
    at the release where some is drawn: one matrix for each frequency in φ, known in closed form.
    Local layers add what the teacher's network does at all steps. With their last weights at
    zero, as at the start, a student equals its teacher without a network.

    Parameters
    ----------
    n_channels, height, width_phi : int
        Shape (C, H, W) of the latents.
    width, n_blocks, patch, mirror
        As :class:`~pileupgen.models.networks.local.LocalDenoiser` takes them.
    has_noise : bool
        Whether noise is drawn at the release.
    solver_settings : dict
        What the teacher's result depends on,
        :meth:`pileupgen.diffusion.settings.Settings.solver_settings`.

    Attributes
    ----------
    maps : Tensor, shape (2, 1 or 2, W//2 + 1, C·H, C·H)
        Of the release and the end, for latents and noise, a matrix per frequency.
    offsets : Tensor, shape (2, C·H)
        What becomes of latents, and noise, that are zero.
    """

    @register_to_config
    def __init__(
        self,
        n_channels: int,
        height: int,
        width_phi: int,
        width: int = 16,
        n_blocks: int = 5,
        patch: tuple[int, int] = (1, 1),
        mirror: bool = True,
        has_noise: bool = False,
        solver_settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.modes = RingModes(n_channels, height, width_phi, patch)
        self.has_noise, self.solver_settings = has_noise, dict(solver_settings or {})
        n, n_cells, n_inputs = self.modes.n_rows, self.modes.n_channels, 1 + has_noise
        self.maps: Tensor
        self.offsets: Tensor
        maps = torch.eye(n).repeat(2, n_inputs, self.modes.n_frequencies, 1, 1)
        self.register_buffer("maps", maps)
        self.register_buffer("offsets", torch.zeros(2, n))
        shape = (1 + n_inputs) * n_cells, 2 * n_cells, self.modes.height, self.modes.width
        condition = ConditionEmbedding(3 * width, n_labels=0, has_time=False)
        self.make_layers(condition, shape, width, n_blocks, mirror=mirror)

    def in_closed_form(self, which: int, latents: Tensor, noise: Tensor | None = None) -> Tensor:
        """Latents at the release or the end, (N, C, H, W), were the teacher without a network.

        Parameters
        ----------
        which : int
            ``RELEASE`` or ``END``.
        latents : Tensor, shape (N, C, H, W)
            Clean ones of the source event.
        noise : Tensor, shape (N, C, H, W)
            Standard normal, where ``has_noise``.
        """
        inputs = [latents] if noise is None else [latents, noise]
        with torch.autocast(latents.device.type, enabled=False):
            found = self.modes.constant(self.offsets[which])
            for matrices, x in zip(self.maps[which], inputs, strict=True):
                coordinates = self.modes.coordinates(x.float())
                found = found + self.modes.times(coordinates, matrices.transpose(1, 2))
            return self.modes.latents(found)

    def forward(
        self, latents: Tensor, mu: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Latents at the release and of the translated event, (N, C, H, W), float32.

        Parameters
        ----------
        latents, noise
            As :meth:`in_closed_form` takes them.
        mu : Tensor, shape (N,)
            Number of pileup interactions; NaN where it is not known.
        """
        release, end = (self.in_closed_form(which, latents, noise) for which in (RELEASE, END))
        shown = [latents, end] if noise is None else [latents, end, noise]
        cells = unpatchify(torch.cat(shown, dim=1), self.modes.patch)
        condition = F.silu(self.condition(None, None, mu))
        found = patchify(self.found_in(cells, condition), self.modes.patch)
        of_release, of_end = found.chunk(2, dim=1)
        return release + of_release, end + of_end
