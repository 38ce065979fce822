from __future__ import annotations

import json

import pytest

from pileupgen.errors import DependencyError
from pileupgen.training import log
from pileupgen.training.log import LossLog

ROWS = [{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": 1.0, "held_out": 1.5}]


def test_rows_are_json_lines(tmp_path):
    losses = LossLog(tmp_path / "denoiser.jsonl", tensorboard=False)
    losses.begin(0)
    losses.write(ROWS)
    lines = (tmp_path / "denoiser.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == ROWS
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_has_every_scalar_once_also_after_a_resume(tmp_path):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs the extra 'tensorboard'",
    )
    for first in (1, 2):  # killed after step 2, continued from step 1
        losses = LossLog(tmp_path / "denoiser.jsonl", tensorboard=None)
        losses.begin(first - 1)
        for end in range(first, 3):
            losses.write(ROWS[:end])
        losses.close()
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard" / "denoiser"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 2.0), (2, 1.0)]
    assert [(e.step, e.value) for e in events.Scalars("held_out")] == [(2, 1.5)]


def test_tensorboard_asked_for_and_not_there_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr(log.importlib.util, "find_spec", lambda name: None)
    LossLog(tmp_path / "a.jsonl", tensorboard=None)
    with pytest.raises(DependencyError, match="TensorBoard"):
        LossLog(tmp_path / "a.jsonl", tensorboard=True)
