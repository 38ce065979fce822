"""W1 of the five channels: known changes have known distances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pileupgen.calo.presets import PRESETS
from pileupgen.compare import zdc_quality
from pileupgen.compare.quality import MethodOutput
from pileupgen.compare.zdc_quality import ZdcJudge, measure_light
from pileupgen.errors import GeometryError
from pileupgen.measure.fibres import CHANNELS, channel_of, channel_sums
from pileupgen.samples.store import Images, ImageStore, create_store
from pileupgen.simulate.zdc import make_zdc_event
from pileupgen.simulate.zdc_spec import ZdcSpec

pytestmark = pytest.mark.usefixtures("thorough")


def write_light(path: Path, spec: ZdcSpec, domain: str) -> ImageStore:
    """A store of simulated events: half training, half test."""
    made = [make_zdc_event(spec, number) for number in range(spec.n_events)]
    known = {name: np.array([e.known[name] for e in made], "f4") for name in made[0].known}
    columns = {
        "mu": known.pop("energy"),
        **known,
        "event_id": np.arange(len(made)),
        "weight": np.ones(len(made)),
        "split": np.arange(len(made)) % 2 * 2,
    }
    card = {"generate": spec.model_dump(mode="json")}
    with create_store(path, spec.grid, domain, {"card": card}) as writer:
        writer.append(np.stack([one.photons for one in made])[:, None], columns)
    return ImageStore(path)


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> ZdcJudge:
    folder = tmp_path_factory.mktemp("light")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zdc_quality, "N_BOOTSTRAP", 20)
        stores = [
            write_light(folder / f"{name}.h5", ZdcSpec(n_events=480, seed=seed), name)
            for seed, name in ((1, "mc"), (2, "data"))
        ]
        yield ZdcJudge.of(*stores, None, 1, 1)


def judged(judge: ZdcJudge, energy: np.ndarray) -> zdc_quality.ZdcQuality:
    output = MethodOutput(np.ascontiguousarray(energy, dtype=np.float32))
    return judge.quality(output, has_source=False)


def test_every_fibre_is_read_once_and_half_of_them_in_common():
    for name in ("zdc_neutron", "zdc_proton"):
        grid = PRESETS[name]
        counts = np.bincount(channel_of(*grid.shape[1:]).ravel(), minlength=5)
        n = grid.n_eta * grid.n_phi
        assert counts[0] == n / 2
        assert abs(counts[1:] - n / 8).max() <= 1
        image = np.random.default_rng(1).poisson(2.0, (3, *grid.shape)).astype(np.float32)
        assert channel_sums(image).sum() == image.sum()


def test_a_photon_in_one_quadrant_is_found_there():
    image = np.zeros((1, 1, 44, 44), dtype=np.float32)
    image[0, 0, 3, 42] = 7
    assert channel_sums(image).tolist() == [[0, 0, 7, 0, 0]]


def test_more_light_is_as_far_away_as_there_is_more_of_it(judge):
    energy = judge.target_images.energy
    same = judged(judge, energy)
    assert same.w1.value == 0
    assert same.photons == pytest.approx(energy.sum(axis=(1, 2, 3)).mean())
    moved = energy.copy()
    moved[:, 0, 43, 0] += 12
    found = judged(judge, moved)
    values = {name: one.value for name, one in found.channels.items()}
    assert values == pytest.approx({**dict.fromkeys(CHANNELS, 0.0), "quadrant_3": 12.0})
    assert found.w1.value == pytest.approx(12 / 5)
    assert found.channels["quadrant_3"].low < 12 < found.channels["quadrant_3"].high


def test_light_of_other_particles_is_told_apart_though_channels_agree(judge):
    """The same light, dealt to other particles: only the classifier sees them."""
    energy = judge.wanted.energy
    own, dealt = judged(judge, energy), judged(judge, np.roll(energy, 1, axis=0))
    assert own.w1.value == dealt.w1.value > 0
    assert own.auc < 0.6 < dealt.auc
    assert judge.reference_quality().w1.value > 0


def test_no_particle_is_in_both_samples(judge):
    """Half of 120 test events are judged against; light is made for the others."""
    assert len(judge.target_images) == len(judge.wanted) == len(judge.source_images) == 120
    assert not set(judge.target_images.event_id) & set(judge.wanted.event_id)


def test_another_grid_is_refused():
    grid = PRESETS["cube_30"]
    columns = {"mu": np.ones(1, "f4"), "event_id": np.arange(1), "weight": np.ones(1)}
    with pytest.raises(GeometryError, match="zdc_neutron or zdc_proton"):
        measure_light(Images(np.zeros((1, *grid.shape), "f4"), grid, columns))
