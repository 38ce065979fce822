"""The whole of training, on small stores: what it leaves behind and what it refuses."""

from __future__ import annotations

import contextlib
import json

import pytest
import torch

from pileupgen.config import parse_config
from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.errors import TrainingError
from pileupgen.run import RunDirectory
from pileupgen.samples.store import ImageStore
from pileupgen.training.networks import new_autoencoder
from pileupgen.training.run_training import train_pipeline
from tests.conftest import SMALL_GRID, write_sample

CONFIG = {
    "name": "small",
    "preprocess": {"geometry": SMALL_GRID.to_dict()},
    "calibration": {"n_knots": 16, "n_mu_bins": 1, "n_layer_bins": 2},
    "codec": "latent",
    "autoencoder": {"width": 8, "n_blocks": 1, "n_heads": 2, "steps": 2},
    "denoiser": {"width": 8, "n_blocks": 1, "steps": 4},
    "ratio": {"width": 8, "n_blocks": 1, "steps": 2},
    "training": {"batch_size": 16, "mixed_precision": "no", "tensorboard": False},
}


def quiet(name, total):
    return contextlib.nullcontext(lambda n=1, **figures: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    run.images("mc").parent.mkdir()
    for domain, name in enumerate(("mc", "data")):
        write_sample(run.images(name), 100, domain)
    return run, train_pipeline(parse_config(CONFIG, "test"), run, "cpu", quiet)


def test_the_model_card_tells_data_networks_metrics_and_how_to_load(trained):
    run, summary = trained
    card = (run.model / "README.md").read_text()
    for words in (
        "# small",
        "- 100 events: 60 train, 15 validation, 25 test",
        "`small`: 2 layers (em, had) × 8 rings × 12 cells in φ, -0.8 ≤ η ≤ 0.8",
        f"| denoiser | {summary.parameters['denoiser']:,} | 4 |",
        "| held-out loss | seconds |",
        "| t | trivial | closed form | network |",
        "| t | AUC [68 %] | ESS |",
        "torch 2.",
        "Apache-2.0",
        "mixed_precision: 'no'",
    ):
        assert words in card


def test_every_network_s_time_is_told(trained):
    _, summary = trained
    assert summary.seconds.keys() == {"calibration", "autoencoder", "denoiser", "ratio"}
    assert all(spent > 0 for spent in summary.seconds.values())


def test_the_card_s_lines_load_the_model(trained, tmp_path):
    run, _ = trained
    card = (run.model / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) == 4
    code = code.replace("path/of/this/folder", str(run.model))
    scope: dict = {}
    exec(code.replace('"mc.h5"', repr(str(run.images("mc")))), scope)
    assert scope["translation"].energy.shape == (10, 2, 8, 12)
    assert isinstance(scope["pipeline"], PileupTranslationPipeline)


def test_the_denoising_curve_is_logged(trained):
    run, summary = trained
    logged = json.loads((run.logs / "denoising.json").read_text())
    assert logged == summary.denoising.to_dict()
    assert len(logged["t"]) == len(logged["network"]) == len(logged["closed_form"])


def test_three_events_are_refused_before_anything_is_fitted(tmp_path):
    run = RunDirectory(tmp_path)
    run.images("mc").parent.mkdir()
    write_sample(run.images("mc"), 100, 0)
    write_sample(run.images("data"), 3, 1)
    assert len(ImageStore(run.images("data"))) == 3
    with pytest.raises(TrainingError, match=r"data.h5 has \d train events; 4 are needed"):
        train_pipeline(parse_config(CONFIG, "test"), run, "cpu", quiet)
    assert not run.checkpoints.exists()


class InterruptionError(Exception):
    pass


def dying(stage, step):
    """Progress bars of which one raises at a step."""

    @contextlib.contextmanager
    def bar(name, total):
        done = []

        def advance(n=1, **_):
            done.append(n)
            if name == stage and sum(done) >= step:
                raise InterruptionError

        yield advance

    return bar


def test_a_killed_run_with_cached_latents_continues_bit_for_bit(tmp_path):
    config = parse_config(
        {
            **CONFIG,
            "training": {
                **CONFIG["training"],
                "cache_latents": True,
                "latent_draws": 2,
                "checkpoint_every": 2,
            },
        },
        "test",
    )
    weights = {}
    for name in ("whole", "killed"):
        run = RunDirectory(tmp_path / name)
        run.images("mc").parent.mkdir(parents=True)
        for domain, sample in enumerate(("mc", "data")):
            write_sample(run.images(sample), 100, domain)
        if name == "killed":
            for stage, step in (("latents", 64), ("denoiser", 3)):
                with pytest.raises(InterruptionError):
                    train_pipeline(config, run, "cpu", dying(stage, step))
                assert len(list(run.latents.glob("*.npy"))) == (stage == "denoiser")
        train_pipeline(config, run, "cpu", quiet)
        weights[name] = {
            path.parent.name: path.read_bytes() for path in run.model.glob("*/*.safetensors")
        }
    assert weights["whole"] == weights["killed"]


def test_a_training_seed_changes_networks_and_not_the_run_s_splits():
    plain, other = (
        parse_config({"codec": "latent", "training": {"seed": seed}}, "test") for seed in (None, 5)
    )
    assert (plain.training_seed, other.training_seed) == (1, 5)
    assert plain.seed == other.seed
    first, second, again = (
        new_autoencoder(config, SMALL_GRID, 2).encoder.first.conv.weight
        for config in (plain, other, plain)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
