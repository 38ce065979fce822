"""Calibration and correction as ONNX graphs: what comes before and after an exported student.

They are traced from the classes that translate, in double precision where these compute in it. ONNX
lacks three functions that they call, which are given here as graphs of what it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import erfcx, ndtri
from torch import Tensor, nn
from torch.onnx.utils import register_custom_op_symbolic, unregister_custom_op_symbolic

from pileupgen.arrays import Floats
from pileupgen.diffusion.onnx_graphs import OPSET, write_graph
from pileupgen.diffusion.pipeline import Correction, TranslationPipeline
from pileupgen.models.calibration.limits import kept_beyond
from pileupgen.models.correction.correlations import FieldCorrection
from pileupgen.models.networks.denoiser import DATA, MC

_HUGE, _TINY = 1e6, 1e-6
"""Energies in GeV beyond both ends of any quantile table."""


def write_coding(
    pipeline: TranslationPipeline, correction: Correction | None, folder: Path
) -> dict[str, str]:
    """Write the graphs from energies to scores and back; the names of their files.

    ``encode``: energy, mu and uniform numbers to scores. ``decode``: translated scores, those of
    ``encode`` and mu to energies ``result``, the correction included. One that corrects
    correlations makes Fourier transforms, which ONNX Runtime computes inaccurately at the lengths
    that calorimeters have: with it there is no ``decode``.
    """
    encoder = _Encode(pipeline).eval()
    with functions_that_onnx_lacks():
        probe = encoder.probe()
        write_graph(encoder, probe, ["scores"], folder / "encode.onnx")
        if isinstance(correction, FieldCorrection):
            return {"encode": "encode.onnx"}
        scores = encoder(*probe.values())
        probe = {"translated": scores.clamp(-4, 4), "scores": scores, "mu": probe["mu"]}
        write_graph(Decode(pipeline, correction), probe, ["result"], folder / "decode.onnx")
    return {"encode": "encode.onnx", "decode": "decode.onnx"}


class _Encode(nn.Module):
    def __init__(self, pipeline: TranslationPipeline) -> None:
        super().__init__()
        self.calibration = _with_exact_tables(pipeline.calibration)
        self.tables = MC if pipeline.calibrates_before else DATA
        self.shape = pipeline.geometry.shape

    def forward(self, energy: Tensor, mu: Tensor, uniform: Tensor) -> Tensor:
        scores: Tensor = self.calibration.encode(energy, self.tables, mu, uniform)
        return scores

    def probe(self) -> dict[str, Tensor]:
        """Events that take every branch: beyond the tables in energy, both ways, and in μ.

        What no event of the probe needed would be missing from the graph.
        """
        centres = self.calibration.mu_centres.float()
        mu = torch.stack([0.5 * centres[0], centres.mean(), 2 * centres[-1]])
        rng = torch.Generator().manual_seed(1)
        uniform = torch.rand(len(mu), *self.shape, generator=rng)
        sizes = torch.tensor([0.0, _TINY, 1.0, 10.0, _HUGE])
        energy = sizes[torch.randint(len(sizes), uniform.shape, generator=rng)]
        return {"energy": energy, "mu": mu, "uniform": uniform}


class Decode(nn.Module):
    """Translated scores to energies, as :meth:`TranslationPipeline.decoded` has it."""

    def __init__(self, pipeline: TranslationPipeline, correction: Correction | None) -> None:
        super().__init__()
        self.calibration = _with_exact_tables(pipeline.calibration)
        self.decoder = _with_exact_tables(pipeline.decoder(correction, DATA))
        self.correction = correction

    def forward(self, translated: Tensor, scores: Tensor, mu: Tensor) -> Tensor:
        """Energies (N, L, n_eta, n_phi) in GeV; ``scores`` are those of the source."""
        limits = self.calibration.score_limits
        corrected = translated if self.correction is None else self.correction(translated)
        corrected = kept_beyond(scores, corrected, limits, len(limits))
        energy: Tensor = self.decoder.decode(corrected, DATA, mu)
        above = scores > limits[:, 1, None, None]
        rows = above.flatten(1).any(dim=1).nonzero()[:, 0]
        own = self.calibration.decode(scores[rows], DATA, mu[rows])
        energy[rows] = torch.where(above[rows], own, energy[rows])
        return energy


def _with_exact_tables(calibration: Any) -> Any:
    """The same in double precision, as it computes: a graph would convert them at every use."""
    return deepcopy(calibration).double()


# -- functions that ONNX lacks -------------------------------------------------------------------

_N_PIECES, _DEGREE = 1024, 3
_T_RANGE = 1e-3, 1.0
"""t = 2/(2 + z) of Φ(−√2 z), z from 1998 to 0."""
_R_RANGE = math.sqrt(2 * math.log(2)), 17.0
"""r = (−2 ln p)^(1/2) of Φ⁻¹(p), p from 1/2 to 2e-63."""


def _pieces(
    function: Callable[[Floats], Floats], lower: float, upper: float
) -> tuple[Tensor, Tensor]:
    """Begins and coefficients (degree + 1, pieces) of polynomials that follow a function."""
    width = (upper - lower) / _N_PIECES
    begins = lower + width * np.arange(_N_PIECES)
    nodes = 0.5 - 0.5 * np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
    values = function(begins + width * nodes[:, None])
    found = np.linalg.solve(np.vander(nodes), values)
    return torch.from_numpy(begins), torch.from_numpy(found)


_INT64 = 7
"""ONNX' number of the type."""
_LOG_SCALED = _pieces(lambda t: np.log(erfcx(2 / t - 2) / t), *_T_RANGE)
"""ln(erfc(z) exp(z²) / t)."""
_QUANTILE = _pieces(lambda r: ndtri(np.exp(-0.5 * r * r)), *_R_RANGE)


class _Value:
    """A value of the graph, with the operators of arithmetic in double precision."""

    def __init__(self, graph: Any, value: Any) -> None:
        self.graph, self.value = graph, value

    def op(self, name: str, *others: _Value | float) -> _Value:
        given = [self.value, *(self._number(other) for other in others)]
        return _Value(self.graph, self.graph.op(name, *given))

    def _number(self, other: _Value | float) -> Any:
        if isinstance(other, _Value):
            return other.value
        number = torch.tensor(float(other), dtype=torch.float64)
        return self.graph.op("Constant", value_t=number)

    def __add__(self, other: _Value | float) -> _Value:
        return self.op("Add", other)

    def __sub__(self, other: _Value | float) -> _Value:
        return self.op("Sub", other)

    def __mul__(self, other: _Value | float) -> _Value:
        return self.op("Mul", other)

    def follow(self, pieces: tuple[Tensor, Tensor]) -> _Value:
        """Take the polynomial of the piece that this value lies in (Horner's rule)."""
        begins, coefficients = pieces
        width = float(begins[1] - begins[0])
        place = (self - float(begins[0])) * (1 / width)
        piece = place.op("Max", 0.0).op("Min", len(begins) - 1.0).op("Floor")
        inside = place - piece
        index = self.graph.op("Cast", piece.value, to_i=_INT64)
        found, *others = (
            _Value(self.graph, self.graph.op("Gather", self._table(one), index))
            for one in coefficients
        )
        for other in others:
            found = found * inside + other
        return found

    def _table(self, values: Tensor) -> Any:
        return self.graph.op("Constant", value_t=values)


def _ndtr(graph: Any, x: Any) -> Any:
    """Φ(x) to 1e-13 of itself."""
    x = _Value(graph, x)
    z = x.op("Abs") * math.sqrt(0.5)
    t = (z + 2).op("Reciprocal") * 2
    lower = t * 0.5 * (t.follow(_LOG_SCALED) - z * z).op("Exp")
    return x.op("Less", 0.0).op("Where", lower, lower * -1 + 1).value


def _ndtri(graph: Any, p: Any) -> Any:
    """Φ⁻¹(p) to 1e-11."""
    p = _Value(graph, p)
    r = (p.op("Min", p * -1 + 1).op("Log") * -2).op("Sqrt")
    return (r.follow(_QUANTILE) * (p * -1 + 0.5).op("Sign")).value


def _searchsorted(graph: Any, boundaries: Any, values: Any, *_: Any) -> Any:
    """How many of the boundaries, ascending along the last axis, are below each value."""
    n = boundaries.type().sizes()[-1]

    def constant(number: int) -> Any:
        return graph.op("Constant", value_t=torch.tensor(number))

    shape = graph.op("Shape", values)
    zero = torch.zeros(1, dtype=torch.int64)
    found = graph.op("ConstantOfShape", shape, value_t=zero)
    for power in range(n.bit_length() - 1, -1, -1):
        further = graph.op("Add", found, constant(2**power))
        last = graph.op("Sub", graph.op("Min", further, constant(n)), constant(1))
        is_below = graph.op("Less", graph.op("GatherElements", boundaries, last, axis_i=-1), values)
        is_there = graph.op("LessOrEqual", further, constant(n))
        found = graph.op("Where", graph.op("And", is_below, is_there), further, found)
    return found


_LACKING: dict[str, Callable[..., Any]] = {
    "aten::special_ndtr": _ndtr,
    "aten::special_ndtri": _ndtri,
    "aten::searchsorted": _searchsorted,
}


@contextmanager
def functions_that_onnx_lacks() -> Iterator[None]:
    """Within it Φ, Φ⁻¹ and ``searchsorted`` are exported."""
    for name, symbolic in _LACKING.items():
        register_custom_op_symbolic(name, symbolic, OPSET)
    try:
        yield
    finally:
        for name in _LACKING:
            unregister_custom_op_symbolic(name, OPSET)
