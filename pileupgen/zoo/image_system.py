"""What image systems share: scores of cells, and marginals of the output."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.errors import GeometryError, RunError
from pileupgen.models.calibration.limits import kept_beyond
from pileupgen.models.codec import EventNoise
from pileupgen.models.correction.marginals import MarginalCorrection
from pileupgen.samples.store import Images
from pileupgen.samples.weights import rows_by_weight
from pileupgen.zoo.base import FittedSystem, padded_batches, rows_of
from pileupgen.zoo.contract import Energies, EventConditions, ZooSample
from pileupgen.zoo.places import PlaceSpace
from pileupgen.zoo.scores import SOURCE, TARGET, ScoreSpace, Views

Task = Literal["generate", "translate"]
CORRECTION_EVENTS = 400
"""Events that a residual correction is fitted on."""
_CORRECTION_SEED = 424_243


class ImageSystem(FittedSystem):
    """A system that makes scores of cells; :class:`~pileupgen.zoo.contract.System` has its uses.

    What it makes is brought to N(0, 1) ring by ring, by a map learned on its own output for the
    training events' conditions, and decoded with the target's quantiles. Events go through
    networks in batches of one size, padded where there are fewer, so that no event depends on how
    many others there are.

    Attributes
    ----------
    space : ScoreSpace
    corrections : dict of MarginalCorrection
        Residual corrections by what is done: ``generate`` or ``translate``.
    """

    space: ScoreSpace

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.corrections: dict[str, MarginalCorrection] = {}

    # -- what a system has to say ---------------------------------------------------------------

    def make_space(self) -> ScoreSpace:
        """Make what turns energies into scores and back, for the grid that is set."""
        if len(self.names) > 1 and not self.grid.is_periodic:
            return PlaceSpace(self.grid)
        return ScoreSpace(self.grid, is_eta_symmetric=self.symmetry.eta)

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:
        """Scores (n, L, n_eta, n_phi) of one batch from noise; conditions (n, 2 k), μ (n,).

        Called of systems alone for which :attr:`can_generate` holds.
        """
        raise NotImplementedError

    def move(self, images: Images, mu: Tensor, seed: int) -> Tensor:
        """Scores (n, L, n_eta, n_phi) of a batch of translated source events; μ has the shape (n,).

        Called of systems alone for which :attr:`can_translate` holds.
        """
        raise NotImplementedError

    # -- what all have in common ----------------------------------------------------------------

    def fit_corrections(self, sample: ZooSample, conditions: EventConditions) -> None:
        """Fit the residual corrections, again where the options have changed.

        Events are taken in proportion to their weights, as the quantiles are.
        """
        if self.can_generate:
            few = rows_by_weight(sample.target.weight, CORRECTION_EVENTS)
            values = conditions.values[few]
            # A heavy event comes more than once, with other noise each time.
            wanted = EventConditions(values, np.arange(len(few), dtype=np.int64), conditions.names)
            self._fit_correction("generate", self._drawn(wanted, _CORRECTION_SEED))
        if self.can_translate and sample.source is not None:
            source = rows_of(sample.source, rows_by_weight(sample.source.weight, CORRECTION_EVENTS))
            self._fit_correction("translate", self._moved(source, source.mu, _CORRECTION_SEED))

    def generate(self, conditions: EventConditions, seed: int) -> Energies:
        """Make events from noise."""
        if not self.can_generate:
            raise RunError("This system only translates.", "Choose one that generates.")
        if "generate" not in self.corrections:
            raise RunError("This system is not fitted.", "Fit or load it first.")
        conditions = self._learned(conditions)
        mu = conditions.values[:, 0]
        scores = self._corrected("generate", self._drawn(conditions, seed))
        return self.space.decode(scores, mu, TARGET)

    def translate(self, images: Images, mu: NDArray[np.float32], seed: int) -> Energies:
        """Make source events look like the target's."""
        if not self.can_translate:
            return super().translate(images, mu, seed)
        if "translate" not in self.corrections:
            raise RunError(
                "This system has not learned to translate.", "Fit it with source events."
            )
        if images.grid != self.grid:
            raise GeometryError(
                f"Events on the grid '{images.grid.name}' {images.grid.shape}; the system learned "
                f"'{self.grid.name}' {self.grid.shape}.",
                "Preprocess them on that grid.",
            )
        scores = self._corrected("translate", self._moved(images, mu, seed))
        own, limits = self.space.encode(images, mu, SOURCE, seed), self.space.limits
        # Cells beyond all that was learned from are calibrated, no more: ranks out there are all 1.
        scores = kept_beyond(own, scores, limits, self.grid.n_layers)
        return self.space.decode(scores, mu, TARGET)

    def views(self, images: Images) -> Views:
        """Batches of training events, which come with their conditions."""
        return Views(self.grid, self.symmetry, self.shown(images), images.weight)

    def _fit_correction(self, task: Task, scores: Tensor) -> None:
        alike = self.space.alike(scores)
        correction = MarginalCorrection(alike.shape[1], alike.shape[2], self.symmetry.eta)
        correction.fit(alike)
        self.corrections[task] = correction

    def _corrected(self, task: Task, scores: Tensor) -> Tensor:
        return self.space.apart(self.corrections[task](self.space.alike(scores)))

    @torch.no_grad()
    def _drawn(self, conditions: EventConditions, seed: int) -> Tensor:
        parts = [torch.empty(0, *self.grid.shape)]
        for rows, n in padded_batches(len(conditions), self.batch):
            some = conditions.taken(rows)
            values = torch.from_numpy(some.values)
            noise = EventNoise(seed, some.event_id)
            parts.append(self.draw(self.conditions(values), values[:, 0], noise)[:n])
        return torch.cat(parts)

    @torch.no_grad()
    def _moved(self, images: Images, mu: NDArray[np.float32], seed: int) -> Tensor:
        parts = [torch.empty(0, *self.grid.shape)]
        for rows, n in padded_batches(len(images), self.batch):
            parts.append(self.move(rows_of(images, rows), torch.from_numpy(mu[rows]), seed)[:n])
        return torch.cat(parts)

    def _more_of_head(self) -> dict[str, Any]:
        return {"corrections": list(self.corrections)}

    def _save_more(self, folder: Path) -> None:
        for task, correction in self.corrections.items():
            correction.save_pretrained(folder / task)

    def _load_more(self, folder: Path, head: dict[str, Any]) -> None:
        self.corrections = {
            task: MarginalCorrection.from_pretrained(folder / task) for task in head["corrections"]
        }


__all__ = ["SOURCE", "TARGET", "ImageSystem", "padded_batches", "rows_of"]
