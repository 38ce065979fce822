"""The density ratio where one domain has far fewer events: 289 of mc and 13 of data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.config import TrainingConfig
from pileupgen.diffusion.release import auc
from pileupgen.diffusion.schedule import alpha_sigma, make_scheduler
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.models.networks.ratio_calibration import HeldOutLogits, fit_lines
from pileupgen.training.checkpoints import Making
from pileupgen.training.data import Augmentation, ScoreSample
from pileupgen.training.loop import Stage, train_stage
from pileupgen.training.objectives import DensityRatio
from pileupgen.training.step import new_accelerator
from tests.conftest import write_sample

SCHEDULER = make_scheduler(1000)
TIMES = [0, 100, 300]
PATCHES = CellPatches(2, 8, 12, (1, 1))


def trained(folder, second: int) -> tuple[RatioClassifier, CellCalibration]:
    """A ratio of 289 events of domain 0 against 13 of domain ``second``."""
    stores = (
        write_sample(folder / "mc.h5", 480, 0, seed=61),
        write_sample(folder / "data.h5", 20, second, seed=62),
    )
    images = [store.read(store.indices("train")) for store in stores]
    assert [len(part) for part in images] == [289, 13]
    calibration = CellCalibration(2, 8, 12, n_knots=32, n_mu_bins=1, n_layer_bins=2)
    calibration.fit([part.energy for part in images], [part.mu for part in images])
    sample = ScoreSample(stores, calibration, "train")
    torch.manual_seed(0)
    network = RatioClassifier(2, 8, 12, width=8, n_blocks=1)
    batch = sample.in_order(289, seed=1)
    network.field.fit([batch.scores[batch.label == domain] for domain in (0, 1)])
    stage = Stage(
        network,
        DensityRatio(PATCHES, SCHEDULER),
        sample,
        sample,
        20,
        Augmentation(),
        folder / "checkpoints",
        folder / "log.jsonl",
        Making("made", {}),
    )
    settings = TrainingConfig(batch_size=16, mixed_precision="no", tensorboard=False)
    train_stage(stage, settings, 1, new_accelerator("cpu"))
    return network.eval(), calibration


@torch.no_grad()
def judged(network: RatioClassifier, calibration: CellCalibration, second: int, folder):
    """Ln r of events apart from training, 240 of each domain, by time."""
    stores = [
        write_sample(folder / f"fresh{number}.h5", 400, domain, seed=71 + number)
        for number, domain in enumerate((0, second))
    ]
    batch = ScoreSample(tuple(stores), calibration, "train").in_order(240, seed=1)
    eps = torch.randn(batch.scores.shape, generator=torch.Generator().manual_seed(1))
    rows = []
    for t in TIMES:
        times = torch.full((len(batch),), t)
        alpha, sigma = alpha_sigma(SCHEDULER, times)
        a, s = alpha[:, None, None, None], sigma[:, None, None, None]
        x_t = a * batch.scores + s * eps
        rows.append(network(x_t, times, batch.mu, alpha, sigma).double().numpy())
    return HeldOutLogits(TIMES, np.stack(rows), batch.label.numpy() == 1)


def test_a_dozen_events_suffice_where_the_domains_can_be_told_apart(tmp_path):
    found = judged(*trained(tmp_path, 1), 1, tmp_path)
    for logit in found.logit:
        mc, data = logit[~found.is_data], logit[found.is_data]
        assert auc(mc, data) > 0.9
        # Not only their order: the sign is the class, so the 22-fold mc is no prior.
        assert np.median(mc) < 0 < np.median(data)


def test_where_nothing_differs_few_events_give_no_ratio(tmp_path):
    found = judged(*trained(tmp_path, 0), 0, tmp_path)
    lines = fit_lines(found, 999)
    for logit, t in zip(found.logit, TIMES, strict=True):
        calibrated = lines(logit, t)
        assert auc(calibrated[~found.is_data], calibrated[found.is_data]) == pytest.approx(
            0.5, abs=0.1
        )
        # Of its over-sure logits the calibration leaves nothing, least of all ln(13 / 289) = −3.1.
        assert abs(calibrated.mean()) < 0.5
        assert calibrated.std() < 0.5
