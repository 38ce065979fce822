"""The variants of a translation, made by a pipeline whose network is the closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pileupgen.compare.ladder import AS_ASKED
from pileupgen.compare.resampling import Samples
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.diffusion.settings import Settings
from pileupgen.measure.sample import measure_sample
from pileupgen.run import RunDirectory
from pileupgen.samples.store import Images, ImageStore, create_store
from pileupgen.workflow import ladder as workflow_ladder
from pileupgen.workflow.ladder import climb, ladder_of, n_translated, planned_variants
from tests.conftest import SMALL_GRID, make_energies
from tests.diffusion.conftest import pipeline  # noqa: F401

ASKED = Settings("invert", 600, 1.0, 4)


def images(n: int, domain: int, seed: int) -> Images:
    energy, mu = make_energies(n, domain, seed)
    columns = {"mu": mu, "event_id": np.arange(n), "weight": np.ones(n)}
    return Images(energy, SMALL_GRID, columns)


@pytest.fixture(scope="module")
def ladder(pipeline):  # noqa: F811
    source = images(300, 0, 50)
    measured = {
        name: measure_sample(name, name, [part], SMALL_GRID)
        for name, part in (
            ("target", images(300, 1, 60)),
            ("reference", images(300, 1, 61)),
            ("source", source),
        )
    }
    samples = Samples(
        measured["target"], (measured["reference"],), measured["source"], measured["source"]
    )
    told: list[int] = []
    found = climb(
        pipeline,
        source,
        images(200, 0, 40),
        samples,
        ASKED,
        seed=1,
        n_bootstrap=40,
        advance=told.append,
    )
    assert sum(told) == n_translated(pipeline, ASKED, 300, 200)
    return found


def test_each_variant_lacks_one_part(ladder):
    names = [rung.name for rung in ladder.rungs]
    assert names == [
        "source",
        "calibrate",
        "transport",
        "network_off",
        "class_kept",
        "unguided",
        "not_self_conditioned",
        AS_ASKED,
        "weighted",
    ]
    settings = {way.name: way.settings for way in planned_variants(ASKED)}
    assert settings["network_off"] == replace(ASKED, network=False)
    assert settings["unguided"] == replace(ASKED, w=0.0)
    mapped = replace(ASKED, map_scale=True)
    (kept,) = [way.settings for way in planned_variants(mapped) if way.name == "scale_kept"]
    assert kept == ASKED
    names = [way.name for way in planned_variants(ASKED, is_self_conditioned=False)]
    assert "not_self_conditioned" not in names
    assert "unguided" not in {way.name for way in planned_variants(replace(ASKED, w=0.0))}
    assert [way.name for way in planned_variants(Settings("transport"))] == ["calibrate", AS_ASKED]


def test_where_nothing_is_corrected_no_variant_is(pipeline):  # noqa: F811
    """As of the jets' shared calibration, in which no domain's scores are Gaussian."""
    asked = replace(ASKED, calibrate_after=False)
    assert not any(way.settings.corrects for way in planned_variants(asked))
    corrected = {way.name for way in planned_variants(ASKED) if way.settings.corrects}
    assert corrected == {way.name for way in planned_variants(ASKED)} - {"calibrate"}
    assert n_translated(pipeline, asked, 300, 200) == 300 * len(planned_variants(asked))


def test_the_correction_is_fitted_on_events_by_their_weights(pipeline, tmp_path, monkeypatch):  # noqa: F811
    """On those of the translation itself, which takes heavy events as often as they count."""
    source = images(40, 0, 50).weighted(np.where(np.arange(40) % 4, 1.0, 5.0))
    columns = {**source.columns, "split": np.where(np.arange(40) < 30, 0, 2)}
    directory = RunDirectory(tmp_path)
    directory.images("mc").parent.mkdir(parents=True)
    settings = replace(ASKED, n_correction_events=20)
    provenance = {**settings.provenance(), "seed": 1}
    for path in (directory.images("mc"), directory.translated):
        path.parent.mkdir(parents=True, exist_ok=True)
        with create_store(path, SMALL_GRID, "mc", provenance) as writer:
            writer.append(source.energy, columns)
    store = ImageStore(directory.images("mc"))
    sample = measure_sample("mc", "mc", [store.read()], SMALL_GRID)
    fitted: list[Images] = []
    monkeypatch.setattr(workflow_ladder, "load_pipeline", lambda *_: pipeline)
    monkeypatch.setattr(
        workflow_ladder, "climb", lambda _p, _s, training, *_, **__: fitted.append(training)
    )
    samples = Samples(sample, (sample,), sample, sample)
    ladder_of(directory, store, ImageStore(directory.translated), samples, ComparisonSettings())
    event_id = fitted[0].event_id
    assert len(event_id) == 20
    assert event_id.tolist() == store.indices_by_weight("train", 20).tolist()
    # 8 of 30 training events have 40 of 62.
    assert np.mean(event_id % 4 == 0) == pytest.approx(40 / 62, abs=0.06)


def test_correlations_are_moved_by_what_switches_the_class(ladder):
    removed = {rung.name: rung.removed["correlations"].value for rung in ladder.rungs}
    assert removed[AS_ASKED] > removed["class_kept"] + 0.2
    assert removed["transport"] > removed["calibrate"] + 0.2
    assert ladder["class_kept"].auc_rise.sigma > 3


def test_a_network_that_adds_nothing_is_said_to(ladder):
    """Its last weights are zero: with and without it the events are the same to rounding."""
    rung = ladder["network_off"]
    assert abs(rung.w1_rise.value.value) < 2e-3
    assert rung.plain_w1 is not None
    assert ladder["calibrate"].plain_w1 is None


def test_calibration_moves_the_marginals(ladder):
    assert ladder["calibrate"].mean_w1.value < 0.5 * ladder["source"].mean_w1.value
    assert ladder["calibrate"].block.value > 0.9
