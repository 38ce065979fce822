"""Training with the lossless codec and the transformer, whole and in small."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from pileupgen.config import parse_config
from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.settings import Settings
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.transformer import TransformerDenoiser
from pileupgen.models.reconstruction import ReconstructionTest
from pileupgen.run import RunDirectory
from pileupgen.training.run_training import train_pipeline
from tests.conftest import make_energies, write_sample

CONFIG = {
    "codec": "cells",
    "calibration": {"n_knots": 32, "n_mu_bins": 1, "n_layer_bins": 3},
    "denoiser": {
        "kind": "transformer",
        "width": 16,
        "n_blocks": 1,
        "n_heads": 2,
        "coarse_conditioning": True,
        "steps": 2,
    },
    "ratio": {"width": 8, "n_blocks": 1, "steps": 2},
    "training": {"batch_size": 8, "mixed_precision": "no"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    run.images("mc").parent.mkdir()
    for domain, name in enumerate(("mc", "data")):
        write_sample(run.images(name), 200, domain)
    opened, judged = [], []

    @contextmanager
    def bar(name, total):
        opened.append(name)
        yield lambda n=1, **losses: None

    def judge(domain, original, reconstructed, event_id):
        judged.append((domain, list(opened), original, reconstructed))
        assert len(event_id) == len(original)
        return ReconstructionTest(domain, len(original), 0.5, 0.5, 0.5, 0.5, 0.5)

    summary = train_pipeline(parse_config(CONFIG, "test"), run, "cpu", bar, judge)
    return run, summary, judged


def test_a_lossless_codec_is_neither_trained_nor_judged(trained):
    run, summary, judged = trained
    assert not judged
    assert "autoencoder" not in summary.histories
    assert not (run.logs / "reconstruction.json").exists()


def test_the_ratio_is_saved_calibrated_with_its_reliability(trained):
    run, summary, _ = trained
    logged = json.loads((run.logs / "reliability.json").read_text())
    assert logged["t"] == summary.release.t
    assert np.mean(logged["after"]) < np.mean(logged["before"]) + 0.01
    pipeline = PileupTranslationPipeline.from_pretrained(run.model)
    assert float(pipeline.ratio.knots[-1]) == 999
    assert not torch.equal(pipeline.ratio.slope, torch.ones(9))


def test_the_saved_pipeline_translates_in_every_mode(trained):
    pipeline = PileupTranslationPipeline.from_pretrained(trained[0].model)
    assert isinstance(pipeline.autoencoder, CellPatches)
    assert isinstance(pipeline.denoiser, TransformerDenoiser)
    assert pipeline.denoiser.has_coarse
    energy, mu = make_energies(5, 0, seed=9)
    for mode in ("partial", "invert", "generate"):
        settings = Settings(mode, 300, 1.0, 2)
        drawn = Settings(mode, 300, 1.0, 2, decode="sample")
        first = pipeline(energy, mu, np.arange(5), settings=settings).energy
        assert np.isfinite(first).all()
        # Nothing is left to draw where nothing was lost.
        assert np.array_equal(first, pipeline(energy, mu, np.arange(5), settings=drawn).energy)
