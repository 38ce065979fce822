"""Calibration and correction as ONNX graphs, against the classes that they are traced from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import ndtr, ndtri
from torch import nn

pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

import onnxruntime

from pileupgen.diffusion import onnx_coding, onnx_graphs
from pileupgen.diffusion.events import TranslatedPart
from pileupgen.diffusion.pipeline import TranslationPipeline
from pileupgen.models.calibration.limits import SCORE_LIMIT
from pileupgen.models.correction.correlations import FieldCorrection
from pileupgen.models.correction.marginals import MarginalCorrection
from tests.conftest import make_energies
from tests.diffusion.test_onnx_export import CellPatches, LocalDenoiser, make_pipeline


@pytest.fixture(scope="module")
def pipeline() -> TranslationPipeline:
    return make_pipeline(CellPatches(2, 8, 12), LocalDenoiser(8, 4, 6, width=8, patch=(2, 2)))


class Functions(nn.Module):
    def __init__(self, knots):
        super().__init__()
        self.register_buffer("knots", knots)

    def forward(self, x, p, values):
        found = torch.searchsorted(self.knots, values)
        return torch.special.ndtr(x), torch.special.ndtri(p), found


def test_the_functions_that_onnx_lacks_are_accurate(tmp_path):
    tail = torch.logspace(-60, -0.302, 2000, dtype=torch.float64)
    knots = torch.linspace(-2, 2, 11).repeat(3, 4, 1) + torch.arange(4)[:, None]
    inputs = {
        "x": torch.linspace(-16, 16, 4000, dtype=torch.float64),
        "p": torch.cat([tail, 1 - tail.clamp_min(1e-12)]),
        "values": torch.cat([knots - 0.01, knots, torch.full((3, 4, 2), 9.0)], dim=2),
    }
    with onnx_coding.functions_that_onnx_lacks():
        onnx_graphs.write_graph(
            Functions(knots), inputs, ["a", "b", "c"], tmp_path / "functions.onnx"
        )
    session = onnxruntime.InferenceSession(str(tmp_path / "functions.onnx"))
    found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    # SciPy: torch's own Φ has no tail below −8.
    np.testing.assert_allclose(found[0], ndtr(inputs["x"].numpy()), rtol=1e-12)
    np.testing.assert_allclose(found[1], ndtri(inputs["p"].numpy()), atol=1e-11)
    np.testing.assert_array_equal(found[2], torch.searchsorted(knots, inputs["values"]))


def test_energies_become_scores_and_scores_energies_as_in_torch(pipeline, tmp_path):
    correction = MarginalCorrection(2, 8)
    correction.knots *= 1.1
    correction.hit_knots += 0.2
    written = onnx_coding.write_coding(pipeline, correction, tmp_path)
    assert written == {"encode": "encode.onnx", "decode": "decode.onnx"}
    encode, decode = (
        onnxruntime.InferenceSession(str(tmp_path / written[name])) for name in ("encode", "decode")
    )
    energy, mu = make_energies(6, 0, seed=71)
    mu[:3] = np.nan, 20.0, 140.0
    energy[2, 0, 3, 4], energy[4, 1, 5, 6], energy[5, 1, 2, 2] = 900.0, 5000.0, 0.2
    uniform = np.random.default_rng(1).random(energy.shape, dtype=np.float32)
    given = torch.from_numpy(energy), 0, torch.from_numpy(mu), torch.from_numpy(uniform)
    expected = pipeline.calibration.encode(*given)
    assert bool((expected > SCORE_LIMIT).any())
    move = 0.1 * torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    translated = (expected.clamp(-5, 5) + move).numpy()
    for rows in (slice(None), slice(0, 1), slice(4, 5)):
        (scores,) = encode.run(
            None, {"energy": energy[rows], "mu": mu[rows], "uniform": uniform[rows]}
        )
        np.testing.assert_allclose(scores, expected[rows], atol=1e-6)
        fed = {"translated": translated[rows], "scores": scores, "mu": mu[rows]}
        (result,) = decode.run(None, fed)
        parts = [torch.from_numpy(value) for value in fed.values()]
        part = TranslatedPart(rows, parts[0], parts[2], torch.zeros(0), 300, 1, parts[1])
        np.testing.assert_allclose(result, pipeline.decoded(part, correction), rtol=1e-6)


def test_a_correction_of_correlations_has_no_graph(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_coding, "write_graph", lambda *_: None)
    written = onnx_coding.write_coding(pipeline, FieldCorrection(2, 8, 12), tmp_path)
    assert written == {"encode": "encode.onnx"}
