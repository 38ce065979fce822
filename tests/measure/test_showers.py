"""Showers of known shape, measured as the CaloChallenge measures them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import PRESETS
from pileupgen.compare.distances import separation_power
from pileupgen.compare.physics_distance import fpd, kpd
from pileupgen.compare.records import ObservableDistance
from pileupgen.compare.results import Comparison
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.validation import validate_stores
from pileupgen.errors import GeometryError
from pileupgen.measure.bootstrap import Estimate
from pileupgen.measure.features import kind_of, observables_of
from pileupgen.measure.observables import ObservableSet
from pileupgen.measure.showers import ShowerSet, data_set_of
from pileupgen.report.figures import validation_figures
from pileupgen.report.figures.showers import farthest_records
from pileupgen.report.page import write_report
from pileupgen.report.tables import shower_table
from pileupgen.report.text import percent
from pileupgen.samples.store import ImageStore

SET_1, SET_2 = PRESETS["calochallenge_1"], PRESETS["calochallenge_2"]
Energy = NDArray[np.float32]


def measured(energy: Energy, grid: Grid, mu: list[float] | None = None) -> dict[str, Any]:
    known = None if mu is None else np.array(mu, dtype=np.float32)
    return ShowerSet(grid).measure(energy, np.arange(len(energy)), known)


def test_only_the_challenges_grids_hold_showers() -> None:
    renamed = Grid.from_dict({**SET_2.to_dict(), "name": "mine"})
    assert isinstance(observables_of(renamed), ShowerSet)
    assert kind_of(renamed) == "showers"
    assert isinstance(observables_of(PRESETS["atlas"]), ObservableSet)
    other = Grid.from_dict({**SET_2.to_dict(), "n_phi": 8})
    assert data_set_of(other) is None
    with pytest.raises(GeometryError, match="not one of the CaloChallenge"):
        ShowerSet(other)
    with pytest.raises(GeometryError, match="shape"):
        ShowerSet(SET_2).voxels(np.zeros((1, 2, 9, 16), dtype=np.float32))


def test_one_voxel_has_its_own_centre_and_no_width() -> None:
    energy = np.zeros((1, *SET_2.shape), dtype=np.float32)
    energy[0, 3, 2, 5] = 0.25
    values = measured(energy, SET_2, [500.0])
    r, alpha = 2.5 * 4.65, -np.pi + 5.5 * np.pi / 8
    assert values["e_total"][0] == pytest.approx(0.25)
    assert values["e_ratio"][0] == pytest.approx(0.5)
    assert values["e_layer_3"][0] == pytest.approx(0.25)
    assert values["e_layer_4"][0] == 0.0
    assert values["sparsity_layer_3"][0] == pytest.approx(1 - 1 / 144)
    assert values["sparsity_layer_4"][0] == 1.0
    assert values["centre_eta_layer_3"][0] == pytest.approx(r * np.cos(alpha))
    assert values["centre_phi_layer_3"][0] == pytest.approx(r * np.sin(alpha))
    assert values["centre_r_layer_3"][0] == pytest.approx(r)
    for axis in ("eta", "phi", "r"):
        assert values[f"width_{axis}_layer_3"][0] == pytest.approx(0.0, abs=1e-5)
        assert values[f"centre_{axis}_layer_4"][0] == 0.0


def test_a_ring_is_as_wide_as_its_radius_over_root_two() -> None:
    energy = np.zeros((1, *SET_2.shape), dtype=np.float32)
    energy[0, 0, 4] = 1.0
    values = measured(energy, SET_2)
    r = 4.5 * 4.65
    assert values["centre_eta_layer_0"][0] == pytest.approx(0.0, abs=1e-9)
    assert values["width_eta_layer_0"][0] == pytest.approx(r / np.sqrt(2))
    assert values["width_phi_layer_0"][0] == pytest.approx(r / np.sqrt(2))
    assert values["centre_r_layer_0"][0] == pytest.approx(r)
    assert values["e_ratio"][0] == 0.0


def test_two_radii_give_mean_and_width_weighted_by_energy() -> None:
    energy = np.zeros((1, *SET_2.shape), dtype=np.float32)
    energy[0, 0, 0, 0], energy[0, 0, 8, 0] = 3.0, 1.0
    values = measured(energy, SET_2)
    inner, outer = 0.5 * 4.65, 8.5 * 4.65
    mean = 0.75 * inner + 0.25 * outer
    width = np.sqrt(0.75 * inner**2 + 0.25 * outer**2 - mean**2)
    assert values["centre_r_layer_0"][0] == pytest.approx(mean)
    assert values["width_r_layer_0"][0] == pytest.approx(width)


def test_voxels_below_the_readout_threshold_are_empty() -> None:
    energy = np.zeros((1, *SET_2.shape), dtype=np.float32)
    energy[0, 0, 0, 0], energy[0, 0, 0, 1] = 15.1e-6, 15.2e-6
    values = measured(energy, SET_2)
    assert values["e_total"][0] == pytest.approx(15.2e-6)
    assert values["sparsity_layer_0"][0] == pytest.approx(1 - 1 / 144)


def test_spread_voxels_of_data_set_1_are_brought_together() -> None:
    grid, observables = SET_1, ShowerSet(SET_1)
    energy = np.zeros((1, *grid.shape), dtype=np.float32)
    # The voxel of 30 to 50 mm in layer 0 goes around α and over several rings of the image.
    inside = grid.layer_rings[0] == 3
    energy[0, 0, inside] = (0.002 * grid.cell_shares[0])[inside][:, None]
    voxels = observables.voxels(energy)
    assert [e.shape[1] for e in voxels] == [8, 160, 190, 5, 5]
    np.testing.assert_allclose(voxels[0][0], [0, 0, 0, 2.0, 0, 0, 0, 0], atol=1e-6)
    values = measured(energy, grid)
    assert values["centre_r_layer_0"][0] == pytest.approx(40.0, rel=1e-5)
    assert observables.layers_of("centre_eta") == ("layer_1", "layer_2")
    assert "width_phi_layer_3" not in values
    assert "width_r_layer_12" in values


def test_physics_features_are_the_challenges() -> None:
    energy = np.zeros((2, *SET_2.shape), dtype=np.float32)
    energy[:, 0, 4, :] = [[0.1], [0.2]]
    values, observables = measured(energy, SET_2, [1000.0, 10_000.0]), ShowerSet(SET_2)
    features = observables.physics_features(values, np.array([1e3, 1e4], dtype=np.float32))
    # E_inc, E_tot and eight numbers in each of 45 layers.
    assert features.shape == (2, 2 + 45 * 8)
    np.testing.assert_allclose(features[:, 0], [3.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(features[:, 1], np.log10([1600.0, 3200.0]), rtol=1e-6)
    unknown = observables.physics_features(values, np.full(2, np.nan, dtype=np.float32))
    assert unknown.shape == (2, 1 + 45 * 8)


def showers(n: int, seed: int, scale: float = 1.0) -> tuple[Energy, NDArray[np.float32]]:
    """Showers of data set 1: a fifth of the incident energy in each layer, flat within it."""
    rng = np.random.default_rng([3, seed])
    incident = 2.0 ** rng.integers(12, 16, size=n)
    e = scale * rng.normal(1.0, 0.02, size=n) * incident / 1000.0
    energy = np.zeros((n, *SET_1.shape))
    for layer, shares in enumerate(SET_1.cell_shares):
        has = SET_1.layer_rings[layer] >= 0
        n_voxels = (SET_1.layer_rings[layer].max() + 1) * (10 if layer in (1, 2) else 1)
        share = shares[has] / (n_voxels * 5)
        energy[:, layer, has] = (e[:, None] * share)[..., None]
    return energy.astype(np.float32), incident.astype(np.float32)


@pytest.fixture(scope="module")
def shower_validation(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("showers")
    stores = {}
    for role, seed, scale in (("mc", 1, 1.5), ("data", 2, 1.0)):
        energy, incident = showers(400, seed, scale)
        stores[role] = toy.store(folder / f"{role}.h5", energy, role, SET_1, mu=incident)
    source: ImageStore = stores["mc"]
    rows = source.indices("test")
    after = source.read(rows).energy / 1.5
    translated = toy.store(
        folder / "translated.h5",
        after,
        "mc_to_data",
        SET_1,
        mu=source.columns["mu"][rows],
        source_event=source.columns["event_id"][rows],
        seed=np.zeros(len(rows), dtype=np.int64),
        split=np.full(len(rows), 2, dtype=np.uint8),
    )
    settings = ComparisonSettings(n_bootstrap=5, n_seeds=1, jets=True)
    return validate_stores(stores["data"], source, translated, settings)


def test_separations_are_taken_in_the_challenges_histograms(shower_validation: Any) -> None:
    found = shower_validation.comparison.showers
    total = found["e_ratio"]
    assert total.n_bins == 100
    # Half of the source's showers deposit more than 1.5 of their incident energy.
    assert total.values["source"] == pytest.approx(1.0, abs=1e-3)
    assert 0.3 < total.outside["source"] < 0.7
    assert total.outside["target"] == 0.0
    assert total.values["translated"] < 0.3
    assert found["e_ratio at 4.096 GeV"].n_bins == 20
    assert np.isnan(found["e_ratio at 0.256 GeV"].values["source"])
    assert found["e_layer_1"].n_bins == 39
    assert found["centre_eta_layer_1"].values["source"] == pytest.approx(0.0, abs=1e-9)
    assert found["voxels"].n_bins == 49
    assert found["voxels"].values["source"] > found["voxels"].values["translated"]


def test_showers_have_a_report_of_their_own(shower_validation: Any, tmp_path: Any) -> None:
    comparison = shower_validation.comparison
    assert comparison.kind == "showers"
    assert comparison.pileup == {}
    assert any("no pileup jets" in note for note in comparison.notes)
    assert Comparison.model_validate_json(comparison.to_json()).showers.keys() == (
        comparison.showers.keys()
    )
    names = [name for name, _ in validation_figures(shower_validation)]
    assert names == ["shower_profile", "cell_spectrum", "observables_1", "distances"]
    drawn = dict(validation_figures(shower_validation))["shower_profile"]()
    assert len(drawn.axes) == 16
    page = write_report(comparison, tmp_path).read_text(encoding="utf-8")
    assert "CaloChallenge" in page


def test_the_references_separation_is_the_median_over_its_samples(shower_validation: Any) -> None:
    samples = shower_validation.samples
    edges = np.linspace(0.5, 1.5, 101)
    target, *others = (
        np.histogram(part.observables["e_ratio"], edges, weights=part.weight)[0]
        for part in (samples.target, *samples.reference)
    )
    powers = [separation_power(target / target.sum(), other / other.sum()) for other in others]
    found = shower_validation.comparison.showers["e_ratio"].values["reference"]
    assert len(powers) > 1
    assert found == pytest.approx(np.median(powers))


def test_physics_distances_are_taken_as_the_challenge_takes_them(shower_validation: Any) -> None:
    samples = shower_validation.samples
    observables = ShowerSet(samples.target.grid)
    pair = [
        observables.physics_features(part.observables, part.mu)
        for part in (samples.target, samples.source)
    ]
    weights = samples.target.weight, samples.source.weight
    found = shower_validation.comparison.source
    assert found.fpd.value == pytest.approx(fpd(*pair, *weights, min_samples=10_000).value)
    assert found.kpd.value == pytest.approx(kpd(*pair, *weights, batch_size=10_000).value)


def test_of_each_family_the_farthest_layer_is_drawn(shower_validation: Any) -> None:
    comparison = shower_validation.comparison
    layers = [name for name in comparison.observables if name.startswith("e_layer_")]
    row = comparison.translated
    far = ObservableDistance(w1=Estimate(9.0, 8.0, 10.0), separation=0.5)
    moved = row.model_copy(update={"observables": {**row.observables, layers[1]: far}})
    rows = {**comparison.rows, "translated": moved}
    drawn = [one.name for one in farthest_records(comparison.model_copy(update={"rows": rows}))]
    assert [name for name in drawn if name in layers] == [layers[1]]


def test_the_table_gives_the_largest_fraction_outside_the_edges(shower_validation: Any) -> None:
    comparison = shower_validation.comparison
    table = shower_table(comparison)
    assert table is not None
    (line,) = (line for line in table.rows if line[0] == "e_ratio")
    assert line[-1] == percent(max(comparison.showers["e_ratio"].outside.values()))
