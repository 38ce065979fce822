"""The table of showers: known changes have known distances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pileupgen.compare import shower_quality, two_sample
from pileupgen.compare.quality import MethodOutput
from pileupgen.compare.shower_quality import PROFILES, TABLE_A, ShowerJudge, measure_showers
from pileupgen.errors import GeometryError, StoreError
from pileupgen.samples.store import Images, ImageStore, create_store
from pileupgen.simulate.shower_spec import ShowerSpec
from pileupgen.simulate.showers import make_shower
from tests.toys import Toy

SPEC = ShowerSpec(energy=(5.0, 50.0), n_events=160)


def write_showers(path: Path, spec: ShowerSpec, domain: str) -> ImageStore:
    """A store of simulated showers: half training, half test."""
    made = [make_shower(spec, number) for number in range(spec.n_events)]
    energy = np.stack([one.voxels.transpose(0, 2, 1) for one in made]).astype(np.float32)
    columns = {
        "mu": np.array([1000 * one.energy for one in made], dtype=np.float32),
        "event_id": np.arange(len(made)),
        "weight": np.ones(len(made)),
        "split": np.arange(len(made)) % 2 * 2,
    }
    card = {"generate": spec.model_dump(mode="json"), "detector": {"phi_symmetric": True}}
    with create_store(path, spec.grid, domain, {"card": card}) as writer:
        writer.append(energy, columns)
    return ImageStore(path)


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> ShowerJudge:
    folder = tmp_path_factory.mktemp("showers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shower_quality, "N_BOOTSTRAP", 20)
        patch.setattr(two_sample, "MAX_ITER", 5)
        stores = [
            write_showers(folder / f"{name}.h5", SPEC.model_copy(update={"seed": seed}), name)
            for seed, name in ((1, "mc"), (2, "data"))
        ]
        yield ShowerJudge.of(*stores, None, 1, 1)


def judged(judge: ShowerJudge, energy: np.ndarray) -> shower_quality.ShowerQuality:
    output = MethodOutput(np.ascontiguousarray(energy, dtype=np.float32))
    return judge.quality(output, has_source=False)


def test_the_same_showers_are_at_no_distance(judge):
    found = judged(judge, judge.target_images.energy)
    assert set(found.distances) == set(TABLE_A)
    assert all(one.value == 0 for one in found.distances.values())
    assert found.w1.value == 0
    # Batches are drawn with replacement; the events are the same.
    assert found.fpd.value < 2e-4
    assert abs(found.kpd.value) < 1e-3
    assert found.resolution == pytest.approx(0.1 / np.sqrt(18), rel=0.5)


def test_showers_without_weight_do_not_count(judge):
    """Half of the showers are spoiled and have the weight 0: the response is the other half's."""
    energy, weight = judge.target_images.energy.copy(), np.ones(len(judge.target_images))
    energy[::2] *= 3
    weight[::2] = 0
    found = judge.quality(MethodOutput(energy, weight=weight), has_source=False)
    expected = judge.target.scalars["e_ratio"][1::2].mean()
    assert found.response == pytest.approx(expected, rel=1e-6)


def test_a_weight_of_three_is_three_showers(judge, tmp_path):
    images, weight = judge.target_images, np.where(np.arange(len(judge.target_images)) % 5, 1, 3)

    def distances(rows: np.ndarray, weights: np.ndarray) -> dict[str, float]:
        """Of the source from a target of these test showers, and one more for the reference."""
        n, energy = len(rows), images.energy[rows]
        columns = {
            "mu": images.mu[rows],
            "event_id": np.arange(n),
            "weight": weights,
            "split": np.where(np.arange(n) < n - 1, 2, 0),
        }
        with create_store(tmp_path / "data.h5", images.grid, "data", {}) as writer:
            writer.append(energy, columns)
        with create_store(tmp_path / "mc.h5", images.grid, "mc", {}) as writer:
            writer.append(1.1 * judge.source_images.energy, judge.source_images.columns)
        stores = (ImageStore(tmp_path / f"{name}.h5") for name in ("mc", "data"))
        found = ShowerJudge.of(*stores, None, 1, 1)
        quality = found.quality(MethodOutput(found.source_images.energy))
        return {name: one.value for name, one in quality.distances.items()}

    rows = np.arange(len(images))
    once, again = distances(rows, weight), distances(np.repeat(rows, weight), np.ones(weight.sum()))
    assert once == pytest.approx(again, rel=1e-6)
    assert once["n_hits"] != pytest.approx(distances(rows, np.ones(len(rows)))["n_hits"], rel=1e-3)


def test_events_begin_again_after_the_last(judge):
    images, n = judge.target_images, len(judge.target_images)
    cycled = images.cycled(n + 2)
    assert cycled.event_id.tolist() == list(range(n + 2))
    np.testing.assert_array_equal(cycled.energy[n:], images.energy[:2])
    np.testing.assert_array_equal(cycled.mu[n:], images.mu[:2])


def test_other_showers_are_at_the_distance_of_the_reference(judge):
    reference = judge.reference_quality()
    source = judge.quality(MethodOutput(judge.source_images.energy))
    assert source.w1.value == pytest.approx(reference.w1.value, abs=0.12)
    assert 0 < reference.w1.low < reference.w1.value < reference.w1.high
    assert reference.auc == pytest.approx(0.5, abs=0.15)


def test_a_higher_response_is_found_in_the_energy_alone(judge):
    found, target = judged(judge, 1.05 * judge.target_images.energy), judge.target
    expected = 0.05 * target.scalars["e_ratio"].mean() / target.scalars["e_ratio"].std()
    assert found.distances["e_ratio"].value == pytest.approx(expected, rel=1e-3)
    assert found.distances["longitudinal"].value < 0.01
    assert found.distances["centre_z"].value < 0.01
    # One of six numbers moves, in units of its largest value.
    ratio = target.scalars["e_ratio"]
    assert found.fpd.value == pytest.approx((0.05 * ratio.mean() / ratio.max()) ** 2, rel=0.6)
    assert found.response == pytest.approx(1.05 * target.scalars["e_ratio"].mean(), rel=1e-3)
    # All hits move by log10 1.05, and some rise above the threshold.
    step = (6.0 + 3.0) / shower_quality.N_ENERGY_BINS
    moved = found.distances["e_cell"].value * judge.spread["e_cell"] * step
    assert moved == pytest.approx(np.log10(1.05), rel=0.2)


def test_a_layer_deeper_is_one_layer_in_depth(judge):
    energy = np.roll(judge.target_images.energy, 1, axis=1)
    found = judged(judge, energy)
    assert found.distances["longitudinal"].value * judge.spread["longitudinal"] == pytest.approx(
        1.0, rel=0.02
    )
    assert found.distances["centre_z"].value * judge.spread["centre_z"] == pytest.approx(
        1.0, rel=0.02
    )
    assert found.distances["radial"].value < 1e-3
    assert found.distances["centre_z"].low > 0.1


def test_a_turn_of_all_showers_is_seen_in_moments_only(judge):
    energy = judge.target_images.energy.copy()
    energy[:] = 0
    energy[..., 8] = judge.target_images.energy.sum(axis=3)
    found = judged(judge, energy)
    assert found.distances["centre_x"].value > 5
    assert found.distances["radial"].value < 1e-4
    assert found.distances["longitudinal"].value < 1e-4
    assert found.distances["n_hits"].value > 1


def test_spectra_add_up_to_what_was_deposited(judge):
    images = judge.target_images
    found = measure_showers(images)
    total = found.scalars["e_ratio"] * images.mu
    for name in ("longitudinal", "radial"):
        np.testing.assert_allclose(found.spectra[name].sum(axis=1), total, rtol=1e-6)
    np.testing.assert_array_equal(found.spectra["e_cell"].sum(axis=1), found.scalars["n_hits"])
    assert set(found.spectra) == set(PROFILES)


def test_what_are_no_showers_is_refused(judge, toy: Toy):
    with pytest.raises(GeometryError, match="CaloChallenge"):
        measure_showers(toy.images(toy.energies(3)))
    unknown = {**judge.target_images.columns, "mu": np.full(len(judge.target_images), np.nan)}
    with pytest.raises(StoreError, match="incident energies"):
        measure_showers(Images(judge.target_images.energy, SPEC.grid, unknown))
