"""Reconstruction of events by the codec alone, without any diffusion."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.fields import PlainRecord
from pileupgen.models.codec import Codec, EventNoise

_BATCH = 128
_LEAST_VISIBLE = 0.51
"""An AUC that rounding alone cannot reach."""
_LEAST_EVENTS = 50
"""Below, the classifier's trees have too few events for a single leaf."""


@dataclass(frozen=True)
class ReconstructionTest(PlainRecord):
    """AUC of a classifier of reconstructed events against the events themselves."""

    domain: str
    """``mc`` or ``data``."""
    n_events: int
    """Held-out events, each of them twice: as it is and reconstructed."""
    auc: float
    auc_low: float
    auc_high: float
    """Area under the ROC curve and its 68 % interval."""
    reference_low: float
    reference_high: float
    """The interval of the same test with original and reconstruction swapped at random."""

    @property
    def is_limit(self) -> bool:
        """Whether the codec alone can be seen, so that no denoiser can do better."""
        return self.auc_low > max(self.reference_high, _LEAST_VISIBLE)

    @property
    def in_words(self) -> str:
        """AUC and reference with their intervals, or that there are too few events."""
        if self.n_events < _LEAST_EVENTS:
            return f"{self.n_events} events are too few to tell"
        return (
            f"AUC {self.auc:.3f} [{self.auc_low:.3f}, {self.auc_high:.3f}], "
            f"reference [{self.reference_low:.3f}, {self.reference_high:.3f}]"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "is_limit": self.is_limit, "in_words": self.in_words}


def reconstruct(
    codec: Codec,
    energy: NDArray[np.float32],
    domain: int,
    mu: NDArray[np.float32],
    event_id: Ints,
    seed: int,
    is_sampled: bool = False,
) -> NDArray[np.float32]:
    """Encode and decode in the same domain.

    Parameters
    ----------
    codec : Codec
        On the CPU.
    energy : float32 array, shape (N, L, n_eta, n_phi)
        GeV.
    domain : int
        0 mc, 1 data.
    mu : float array, shape (N,)
    event_id : int array, shape (N,)
        With the seed fixes the random numbers of an event.
    is_sampled : bool
        Draw each score from the decoder's density, not take its mean.

    Returns
    -------
    float32 array, shape (N, L, n_eta, n_phi)
        GeV.
    """
    out = np.empty_like(energy, dtype=np.float32)
    for begin in range(0, len(energy), _BATCH):
        rows = slice(begin, begin + _BATCH)
        noise = EventNoise(seed, event_id[rows], stream=2)
        images, mus = torch.from_numpy(energy[rows]), torch.from_numpy(np.asarray(mu[rows]))
        uniform = noise.uniform(tuple(energy.shape[1:]))
        cells = (codec.calibration.n_channels, *energy.shape[2:])
        normal = noise.normal(cells) if is_sampled else None
        latents = codec.encode(images, domain, mus, uniform)
        out[rows] = codec.decode(latents, domain, mus, normal).numpy()
    return out
