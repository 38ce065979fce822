"""Several collections of an event become one, against going through them cell by cell."""

from __future__ import annotations

import numpy as np
import pytest

from pileupgen.samples.readers.part import Part, join_parts


@pytest.mark.parametrize("widths", [(2, 2, 2), (2, 4, 2)])
def test_collections_are_joined_event_by_event(widths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    layers_of = {"a": ("em", "had"), "b": ("had",), "c": ("tail", "em")}
    parts = {}
    for name, width in zip(layers_of, widths, strict=True):
        counts = rng.poisson(3, 7)
        counts[2] = 0
        n = int(counts.sum())
        factor = None if name == "a" else rng.random(n)
        parts[name] = Part(
            np.concatenate([[0], np.cumsum(counts)]),
            rng.random((n, width)).astype(np.float32),
            rng.random((n, len(layers_of[name]))).astype(np.float32),
            factor,
            {"layer 9": 1.0} if name == "b" else {},
        )
    layers = ("em", "had", "tail")
    found = join_parts(parts, layers_of, layers)
    row = 0
    for event in range(7):
        for name, part in parts.items():
            for cell in range(part.offsets[event], part.offsets[event + 1]):
                edges = part.edges[cell]
                if len(edges) < max(widths):
                    edges = edges[[0, 0, 1, 1]]
                assert np.array_equal(found.edges[row], edges)
                energies = dict(zip(layers_of[name], part.energy[cell], strict=True))
                assert list(found.energy[row]) == [energies.get(layer, 0) for layer in layers]
                assert found.factor is not None
                assert found.factor[row] == (1 if part.factor is None else part.factor[cell])
                row += 1
        assert found.offsets[event + 1] == row
    assert len(found.edges) == row
    assert found.left_out == {"b layer 9": 1.0}
