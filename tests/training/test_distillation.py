from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pileupgen.config import DistillConfig, TrainingConfig
from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.diffusion.settings import Settings
from pileupgen.diffusion.teacher import new_student
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.local import LocalDenoiser
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.training import distillation
from pileupgen.training.checkpoints import Making
from pileupgen.training.data import Augmentation
from pileupgen.training.distillation import (
    N_HELD_OUT,
    Apprenticeship,
    Distillation,
    Pairs,
    Teacher,
    distil,
)
from tests.conftest import SMALL_GRID, write_sample
from tests.models.test_networks import scramble

SETTINGS = Settings("partial", 400, 1.0, 2, fresh_noise=0.2)
SYMMETRIES = Augmentation(phi_step=1, eta_mirror=True)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Teacher:
    folder = tmp_path_factory.mktemp("teacher")
    stores = [write_sample(folder / f"{d}.h5", 300, d) for d in (0, 1)]
    images = [store.read(store.indices("train")) for store in stores]
    calibration = CellCalibration(2, 8, 12, n_knots=64, n_mu_bins=1, n_layer_bins=1)
    calibration.fit([one.energy for one in images], [one.mu for one in images])
    codec = CellPatches(2, 8, 12, (2, 2))
    denoiser = LocalDenoiser(8, 4, 6, width=8, n_blocks=1, patch=(2, 2))
    scramble(denoiser.last, std=0.3)
    latents = [torch.randn(80, 8, 4, 6) for _ in range(2)]
    denoiser.field.fit(latents, mirror_eta=True)
    pipeline = PileupTranslationPipeline(
        calibration,
        codec,
        denoiser,
        RatioClassifier(8, 4, 6, width=8, n_blocks=1, patch=(2, 2)),
        make_scheduler(1000),
        SMALL_GRID.to_dict(),
    )
    return Teacher(pipeline, SETTINGS, stores[0], seed=4)


def test_every_pair_is_drawn_anew_and_a_lost_file_comes_back_the_same(
    teacher, tmp_path, monkeypatch
):
    monkeypatch.setattr(distillation, "CHUNK", 100)
    told: list[int] = []
    paths = teacher.write_pairs(tmp_path, 430, told.append)
    assert [len(np.load(path)) for path in paths] == [100, 80, 100, 80, 70]
    assert sum(told) == 430
    before = paths[3].read_bytes()
    others = [path.stat().st_mtime_ns for path in paths[:3]]
    paths[3].unlink()
    assert teacher.write_pairs(tmp_path, 430) == paths
    assert paths[3].read_bytes() == before
    assert [path.stat().st_mtime_ns for path in paths[:3]] == others
    # Both passes have each of the 180 events once, with other ranks and other noise.
    pairs = Pairs(paths, teacher.mu("train", 430), (2, 2))
    batch = pairs.in_order(0, 0)
    assert len(pairs) == len(batch) == 430
    latents, noise, _, _ = batch.scores.chunk(4, dim=1)
    assert len(noise.flatten(1).unique(dim=0)) == 430
    assert len(latents.flatten(1).unique(dim=0)) == 430


def test_a_mirrored_and_rolled_pair_is_a_pair(teacher, tmp_path):
    """What the teacher makes of a rolled event is the rolled translation of it."""
    held_out = Pairs(
        [teacher.write_held_out(tmp_path)], teacher.mu("validation", N_HELD_OUT), (2, 2)
    )
    plain = held_out.batch(0, 20, seed=1)
    moved = held_out.batch(0, 20, seed=1, augmentation=SYMMETRIES)
    assert torch.equal(plain.event_id, moved.event_id)
    assert not torch.equal(plain.scores, moved.scores)
    latents, noise, release, end = moved.scores.chunk(4, dim=1)
    translator = replace(teacher.pipeline.translator(Direction()), bf16=False)
    x_t, x_0 = translator.follow(latents, moved.mu, SETTINGS, lambda: noise)
    torch.testing.assert_close(x_t, release, atol=2e-2, rtol=0)
    torch.testing.assert_close(x_0, end, atol=2e-2, rtol=0)
    assert float((x_0 - latents).abs().mean()) > 0.1


def distilled(teacher: Teacher, folder: Path, steps: int, every: int = 100):
    training = TrainingConfig(tensorboard=False, checkpoint_every=every, mixed_precision="no")
    config = DistillConfig(pairs=360, steps=steps, batch_size=16, n_blocks=1, width=8)
    student = new_student(teacher.pipeline, SETTINGS, 1, config.width, config.n_blocks)
    place = Apprenticeship(folder, folder / "log.jsonl", Making("test"), SYMMETRIES)
    return student, distil(teacher, student, config, training, place)


def test_a_student_learns_what_the_closed_form_leaves(teacher, tmp_path):
    _, result = distilled(teacher, tmp_path, 60)
    held_out = Pairs(
        [teacher.write_held_out(tmp_path / "pairs")], teacher.mu("validation", N_HELD_OUT), (2, 2)
    )
    fresh = new_student(teacher.pipeline, SETTINGS, 1, 8, 1).requires_grad_(False)
    of_fresh = Distillation.of(fresh, held_out).loss(fresh, held_out.in_order(0, 0), {})
    assert float(of_fresh.mean()) == pytest.approx(2.0, rel=1e-3)
    assert result.history[-1]["held_out"] < 1.2


def test_an_interrupted_distillation_ends_bit_for_bit_the_same(teacher, tmp_path, monkeypatch):
    whole, _ = distilled(teacher, tmp_path / "whole", 10, every=4)
    real, taken = Distillation.loss, []

    def until_killed(self, network, batch, drawn):
        taken.append(network.training)
        if sum(taken) == 7:
            raise KeyboardInterrupt
        return real(self, network, batch, drawn)

    monkeypatch.setattr(Distillation, "loss", until_killed)
    with pytest.raises(KeyboardInterrupt):
        distilled(teacher, tmp_path / "killed", 10, every=4)
    monkeypatch.setattr(Distillation, "loss", real)
    again, result = distilled(teacher, tmp_path / "killed", 10, every=4)
    assert result.history[-1]["step"] == 10
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
