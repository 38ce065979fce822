"""Calibration of the density ratio and scan of its AUC over t, after the last training stage."""

from __future__ import annotations

import numpy as np
import torch

from pileupgen.diffusion.pipeline import TranslationPipeline
from pileupgen.diffusion.release import ReleaseScan, scan_release
from pileupgen.diffusion.schedule import alpha_sigma
from pileupgen.models.networks.ratio_calibration import (
    HeldOutLogits,
    Reliability,
    fit_lines,
    reliability,
)
from pileupgen.training.data import ScoreSample

RELEASE_TIMES = [0, *range(25, 1000, 25), 999]
MAX_EVENTS = 400
"""Validation events per domain."""


def calibrate_and_scan(
    pipeline: TranslationPipeline, held_out: ScoreSample, seed: int
) -> tuple[ReleaseScan, Reliability]:
    """Calibrate the pipeline's ratio on validation events, and scan its AUC over t.

    The lines have two numbers at each of a few noise levels, so the scan is on the same events;
    the reliability, which is what the lines are fitted to, is cross-fitted.
    """
    raw = _held_out_logits(pipeline, held_out, seed)
    last = pipeline.num_train_timesteps - 1
    lines = fit_lines(raw, last)
    pipeline.ratio.calibrate(lines)
    calibrated = [lines(logit, t) for logit, t in zip(raw.logit, raw.t, strict=True)]
    pairs = [(logs[~raw.is_data], logs[raw.is_data]) for logs in calibrated]
    return scan_release(raw.t, pairs, seed), reliability(raw, last)


@torch.no_grad()
def _held_out_logits(
    pipeline: TranslationPipeline, held_out: ScoreSample, seed: int
) -> HeldOutLogits:
    batch = held_out.in_order(MAX_EVENTS, seed)
    z = pipeline.autoencoder.encode(batch.scores, batch.label, batch.mu)
    eps = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))
    last = pipeline.num_train_timesteps - 1
    times = sorted({round(t * last / 999) for t in RELEASE_TIMES})
    rows = []
    for t in times:
        alpha, sigma = alpha_sigma(pipeline.scheduler, torch.tensor(t))
        rows.append(pipeline.log_ratio(alpha * z + sigma * eps, t, batch.mu).double().numpy())
    return HeldOutLogits(times, np.stack(rows), batch.label.numpy() == 1)
