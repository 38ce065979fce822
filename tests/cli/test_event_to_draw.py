"""The path of the event that a validation shows, from a run and its translated store."""

from __future__ import annotations

import numpy as np
import pytest

from pileupgen.compare.display import Display
from pileupgen.run import RunDirectory
from pileupgen.samples.store import ImageStore
from pileupgen.workflow.event_path import event_path

WAYS = {
    "partial": ("--t-release", "300", "--w", "0"),
    "per-event": ("--release", "per-event", "--t-release", "400", "--tolerance", "1000"),
    "calibrate": ("--mode", "calibrate"),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_found_where_there_is_one(tiny_run, command, tmp_path, way):
    target = tmp_path / "out.h5"
    options = ("--no-calibrate-after", "--device", "cpu", "-o", target)
    command("translate", "--run", tiny_run, *WAYS[way], *options)
    source, store, run = ImageStore(tiny_run / "data/mc.h5"), ImageStore(target), tiny_run
    event = int(store.columns["source_event"][4])
    before, after = source.read(np.array([event])).energy[0], store.read(slice(4, 5)).energy[0]
    display = Display(before, after, after, event, 0)
    found = event_path(RunDirectory(run), source, store, display)
    if way == "calibrate":
        assert found is None
        return
    assert found is not None
    assert found.event == event
    assert found.t[-1] == store.columns["t_release"][4]
    assert np.corrcoef(found.down[0].ravel(), after.ravel())[0, 1] > 0.999
    assert event_path(RunDirectory(run), source, store, None) is None


def test_a_store_of_another_model_has_none(tiny_run, foreign_store, caplog):
    found = event_path(RunDirectory(tiny_run), *foreign_store)
    assert found is None
    assert "another model" in caplog.text


@pytest.fixture
def foreign_store(tiny_run, command, tmp_path):
    target = tmp_path / "out.h5"
    command("translate", "--run", tiny_run, "--mode", "calibrate", "-o", target)
    source, store = ImageStore(tiny_run / "data/mc.h5"), ImageStore(target)
    store.provenance = {**store.provenance, "model": "another"}
    image = store.read(slice(0, 1)).energy[0]
    return source, store, Display(image, image, image, 0, 0)
