"""The samples of a comparison and how often each event counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pileupgen.arrays import Floats, Ints
from pileupgen.measure.bootstrap import resample
from pileupgen.measure.sample import Sample


@dataclass(frozen=True)
class Samples:
    """The samples of a comparison."""

    target: Sample
    """Held-out real events."""
    reference: tuple[Sample, ...]
    """Disjoint samples of other real events, each as large as the source sample: what no
    translation can beat is the mean of their distances to the target."""
    source: Sample
    translated: Sample
    """Simulated events, before and after translation."""

    def __post_init__(self) -> None:
        if not self.have_negatives:
            return
        for role in ("target", "source", "translated"):
            object.__setattr__(self, role, getattr(self, role).with_negatives())
        object.__setattr__(
            self, "reference", tuple(part.with_negatives() for part in self.reference)
        )

    @property
    def have_negatives(self) -> bool:
        """Whether a cell of any sample is below 0: then all have observables of such cells."""
        parts = (self.target, *self.reference, self.source, self.translated)
        return any(bool(part.negatives.any()) for part in parts)

    def rows(self) -> dict[str, tuple[Sample, ...]]:
        """Name the rows of the comparison, each with the samples it is the mean over."""
        return {
            "reference": self.reference,
            "source": (self.source,),
            "translated": (self.translated,),
        }


@dataclass(frozen=True)
class Draws:
    """How often each event counts: as it is in column 0, resampled in the others.

    Source and translated events are drawn together, for they are the same interactions.
    """

    target: Floats
    """Weights times counts. Shape (n, 1 + B)."""
    rows: dict[str, tuple[Floats, ...]]
    """The same for each sample of each row. Shape (n, 1 + B) each."""
    drawn_by: tuple[Ints, int, int]
    """The last three arguments of :meth:`from_weights`: with the weights they draw the same again.
    """

    @classmethod
    def of(cls, samples: Samples, source_of: Ints, n_bootstrap: int, seed: int) -> Draws:
        """Draw for the samples of a comparison, see :func:`compare`."""
        return cls.from_weights(
            samples.target.weight,
            {name: [part.weight for part in parts] for name, parts in samples.rows().items()},
            source_of,
            n_bootstrap,
            seed,
        )

    @classmethod
    def from_weights(
        cls,
        target: Floats,
        rows: Mapping[str, Sequence[Floats]],
        source_of: Ints,
        n_bootstrap: int,
        seed: int,
    ) -> Draws:
        """Draw events of which only the weights are known."""
        rng = np.random.default_rng([seed, 2])
        (source,), (translated,) = rows["source"], rows["translated"]
        together = _counts(len(source), n_bootstrap, rng)
        return cls(
            target=_counts(len(target), n_bootstrap, rng) * target[:, None],
            rows={
                "reference": tuple(
                    _counts(len(weight), n_bootstrap, rng) * weight[:, None]
                    for weight in rows["reference"]
                ),
                "source": (together * source[:, None],),
                "translated": (together[source_of] * translated[:, None],),
            },
            drawn_by=(source_of, n_bootstrap, seed),
        )


def _counts(n: int, n_bootstrap: int, rng: np.random.Generator) -> Floats:
    return np.concatenate([np.ones((n, 1)), resample(n, n_bootstrap, rng)], axis=1)
