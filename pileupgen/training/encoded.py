"""Events as latents, encoded once, under the interface of those encoded at every step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.config import Config
from pileupgen.models.codec import Codec, LatentModel
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.progress import Advance
from pileupgen.samples.store import ImageStore
from pileupgen.training.data import Augmentation, Batch, HeldOut, ScoreSample, Training
from pileupgen.training.latent_cache import CHUNK, cached_latents, encode, fingerprint_of


@dataclass(frozen=True)
class LatentSample:
    """Cached latents of the training events under the interface of :class:`ScoreSample`.

    Events come in the order in which ``sample`` has them; which draw of an event, and whether its
    mirrored copy, is a function of (seed, step).
    """

    sample: ScoreSample
    """The events."""
    latents: NDArray[np.float16]
    """Latents that :func:`~pileupgen.training.latent_cache.cached_latents` gives. Shape (N, copies,
    C, H, W)."""
    is_mirrored: bool
    patch_phi: int
    """Cells in φ per latent position."""

    def batch(
        self, step: int, batch_size: int, seed: int, augmentation: Augmentation | None = None
    ) -> Batch:
        """The global batch of a step as latents, mc and data in turn."""
        rng = np.random.default_rng([seed, 5, step])
        given = augmentation or Augmentation()
        rows = self.sample.rows(step, batch_size, seed)
        first = (0, self.sample.n_events[0])
        values = [
            torch.from_numpy(
                self.latents[first[d] + rows[d], self._copies(len(rows[d]), rng, given)]
            )
            for d in (0, 1)
        ]
        rolls = Augmentation(given.phi_step // self.patch_phi)
        return self.sample.in_turn(rows, values, rolls, rng, is_encoded=True)

    def _copies(self, n: int, rng: np.random.Generator, augmentation: Augmentation) -> Ints:
        """Choose a copy of each of ``n`` events."""
        if not self.is_mirrored:
            return rng.integers(self.latents.shape[1], size=n)
        draw = rng.integers(self.latents.shape[1] // 2, size=n)
        is_mirror = (rng.random(n) < 0.5) & augmentation.eta_mirror
        return 2 * draw + is_mirror


class EncodedHeldOut:
    """Held-out events that are encoded when first asked for, and no second time."""

    def __init__(self, held_out: HeldOut, autoencoder: LatentModel, device: torch.device) -> None:
        self._held_out, self._autoencoder, self._device = held_out, autoencoder, device
        self._known: dict[tuple[int, int], Batch] = {}

    def in_order(self, n_per_domain: int, seed: int) -> Batch:
        """The first events of each domain as latents; mc first."""
        key = (n_per_domain, seed)
        if key not in self._known:
            batch = self._held_out.in_order(n_per_domain, seed)
            parts = [
                encode(self._autoencoder, batch.rows(slice(begin, begin + CHUNK)), self._device)
                for begin in range(0, len(batch), CHUNK)
            ]
            self._known[key] = Batch(
                torch.cat(parts), batch.label, batch.mu, batch.event_id, is_encoded=True
            )
        return self._known[key]


def cache_pays(n_seen: int, n_events: int, n_copies: int) -> bool:
    """Whether encoding all copies once is less than half of encoding at every step.

    >>> cache_pays(n_seen=23_680, n_events=4_800, n_copies=8)
    False
    """
    return n_seen > 2 * n_copies * n_events


def encoded_events(
    config: Config,
    folder: Path,
    stores: tuple[ImageStore, ImageStore],
    samples: tuple[ScoreSample, ScoreSample],
    codec: Codec,
    augmentation: Augmentation,
    accelerator: Accelerator,
    bar: Callable[[str, int], AbstractContextManager[Advance]],
) -> tuple[Training, HeldOut]:
    """Training and held-out events as latents, where the config has them cached.

    Parameters
    ----------
    stores : two ImageStores
        mc and data.
    samples : two ScoreSamples
        Training and validation; returned as they are where nothing is cached.

    Raises
    ------
    OutputError
        If the cache cannot be written.
    TrainingError
        If a latent is not finite.
    """
    settings, autoencoder = config.training, codec.autoencoder
    n_events, n_draws = sum(samples[0].n_events), settings.latent_draws
    n_seen = (config.denoiser.steps + config.ratio.steps) * settings.batch_size
    pays = cache_pays(n_seen, n_events, n_draws * (2 if augmentation.eta_mirror else 1))
    is_wanted = pays if settings.cache_latents == "auto" else settings.cache_latents
    if not isinstance(autoencoder, Autoencoder) or not is_wanted:
        return samples
    seed, mirror = config.training_seed, augmentation.eta_mirror
    facts = [store.provenance for store in stores], config.calibration.before, seed, n_draws, mirror
    with bar("latents", n_events) as advance:
        latents = cached_latents(
            folder,
            fingerprint_of(autoencoder, codec.calibration, facts),
            samples[0],
            autoencoder,
            n_draws=n_draws,
            mirror=mirror,
            seed=seed,
            accelerator=accelerator,
            advance=advance,
        )
    training = LatentSample(samples[0], latents, mirror, autoencoder.patch[1])
    return training, EncodedHeldOut(samples[1], autoencoder, accelerator.device)
