"""Checks between reading and training: each finds its own mistake, and none finds one in towers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import get_grid
from pileupgen.cli.ui.sample_table import show_comparison
from pileupgen.errors import ConfigError, ImplausibleInputError, UnreadableInputError
from pileupgen.samples.cards import DataCard, default_suppression, load_card
from pileupgen.samples.checks import (
    Finding,
    check_matching,
    check_pair,
    check_profiles,
    check_sample,
    judge,
    require_known,
)
from pileupgen.samples.ingest import IngestSummary, examine, ingest
from tests.sample_files import jagged, write_tree

GRID = Grid(tuple(np.linspace(-2.5, 2.5, 11)), 12, name="coarse")
N_EVENTS = 120
CELLS = np.stack(np.meshgrid(GRID.eta_centres, GRID.phi_centres, indexing="ij"), axis=-1).reshape(
    -1, 2
)


def cells(seed: int = 1, scale: float = 1.0) -> dict[str, NDArray[Any]]:
    """η, φ, energies and μ of events whose every cell has energy, that grows with μ."""
    rng = np.random.default_rng(seed)
    mu = rng.poisson(30, N_EVENTS)
    shape = (N_EVENTS, len(CELLS))
    columns = {
        "eta": np.broadcast_to(CELLS[:, 0], shape).copy(),
        "phi": np.broadcast_to(CELLS[:, 1], shape).copy(),
    }
    for layer in ("em", "had"):
        columns[layer] = scale * rng.exponential(0.1 * mu[:, None], shape)
    return {**columns, "mu": mu.astype(np.float64)}


def write(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    write_tree(
        path,
        {
            name: values
            if values.ndim == 1
            else jagged(np.full(len(values), values.shape[1]), values.ravel())
            for name, values in columns.items()
        },
        "cells",
    )


def card_of(folder: Path, values: dict[str, Any], **changes: Any) -> DataCard:
    options = {"tree": "cells", "eta": "eta", "phi": "phi", "layers": {"em": "em", "had": "had"}}
    card = {
        **values,
        "format": "root",
        "options": {**options, **changes.pop("options", {})},
        "mu": "mu",
        "units": {"energy": "GeV"},
        **changes,
    }
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    return load_card(path)


@pytest.fixture
def examined(tmp_path: Path, card_values: dict[str, Any]) -> Any:
    """Findings of a sample that is written with some columns changed."""

    def examine_it(
        columns: dict[str, NDArray[Any]], grid: Grid = GRID, **changes: Any
    ) -> tuple[list[Finding], IngestSummary]:
        write(tmp_path / "sample.root", columns)
        card = card_of(tmp_path, card_values, **changes)
        summary = examine(card.open(card.input_files()), grid, N_EVENTS)
        return check_sample(summary, card, grid), summary

    return examine_it


def names(findings: Sequence[Finding], *, is_error: bool | None = None) -> list[str]:
    return [f.name for f in findings if is_error is None or f.is_error == is_error]


def test_a_sound_sample_has_no_findings(examined: Any) -> None:
    found, summary = examined(cells())
    assert found == []
    assert check_pair(summary, examined(cells(2))[1], GRID) == []


def doctored(**changes: Any) -> dict[str, NDArray[Any]]:
    columns = cells()
    for name, change in changes.items():
        columns[name] = change(columns[name])
    return columns


def with_value(value: float, n: int) -> Any:
    def change(values: NDArray[Any]) -> NDArray[Any]:
        values.reshape(-1)[:: values.size // n] = value
        return values

    return change


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"phi": np.degrees}, "phi_beyond_turn", "from -165 to 165, beyond a turn"),
        ({"phi": lambda phi: np.round(36 + phi * 36 / np.pi)}, "phi_beyond_turn", "beyond a turn"),
        ({"phi": lambda phi: np.round(phi)}, "phi_whole", "every φ is a whole number"),
        ({"eta": lambda eta: 40 * eta}, "eta_beyond", "from -90 to 90"),
        ({"eta": with_value(-10, 40)}, "eta_beyond", "from -10 to 2.25"),
        ({"em": lambda em: 0 * em, "had": lambda had: 0 * had}, "empty_events", "none of its 120"),
        ({"em": with_value(-999, 40)}, "sentinel", "numbers of 'em' are exactly -999"),
        ({"em": with_value(-999, 1)}, "sentinel", "1 number of 'em' is exactly -999"),
        ({"had": with_value(9999, 3)}, "sentinel", "numbers of 'had' are exactly 9999"),
        ({"had": with_value(-32768, 3)}, "sentinel", "numbers of 'had' are exactly -32768"),
        ({"em": lambda em: with_value(999, 40)(np.where(em > 25, 40 * em, em))}, "sentinel", "999"),
        ({"mu": with_value(9999, 3)}, "sentinel", "μ is 9999 in 3 events, and at most"),
        ({"mu": with_value(-1, 6)}, "mu_negative", "μ is below 0 in 6 of 120"),
    ],
)
def test_what_cannot_be_physics_is_an_error_unless_allowed(
    examined: Any, changes: dict[str, Any], name: str, said: str
) -> None:
    found, _ = examined(doctored(**changes))
    assert name in names(found, is_error=True)
    with pytest.raises(ImplausibleInputError) as caught:
        judge(found)
    assert said in caught.value.message
    assert f"--allow {name}" in caught.value.hint
    assert found == judge(found, names(found))


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"phi": lambda phi: phi / (2 * np.pi)}, "phi_silent", "adjacent of 12 φ sectors"),
        ({"eta": lambda eta: 0.4 * eta}, "rings_silent", "6 of 10 rings"),
        ({"em": lambda em: 1e3 * em, "had": lambda had: 1e3 * had}, "magnitude", "per interaction"),
        ({"em": lambda em: 1e-3 * em, "had": lambda e: 1e-3 * e}, "magnitude", "per interaction"),
        ({"had": lambda had: 0 * had}, "layer_silent", "layer 'had' has no energy"),
        ({"had": lambda had: 1e-3 * had}, "layers_apart", "GeV on average in layer 'had' and"),
        ({"eta": np.round}, "eta_whole", "every η is a whole number, from -2 to 2"),
        ({"em": lambda em: np.maximum(em, 1.0)}, "repeated_value", "are exactly 1"),
        ({"em": lambda em: em - 3.0}, "negative_energy", "Σ|E| is below 0"),
        ({"mu": with_value(np.nan, 6)}, "mu_unknown", "in 6 of 120 events"),
        ({"mu": lambda mu: mu[::-1].copy()}, "mu_unrelated", "not correlated"),
        ({"em": lambda em: np.minimum(em, 4.0)}, "repeated_value", "exactly 4, its largest"),
    ],
)
def test_what_may_be_a_mistake_is_a_warning_with_numbers(
    examined: Any, changes: dict[str, Any], name: str, said: str
) -> None:
    found, _ = examined(doctored(**changes))
    assert name in names(found, is_error=False)
    assert any(said in finding.message for finding in judge(found))


def test_energies_too_large_for_any_pileup_where_mu_is_not_known(examined: Any) -> None:
    columns = cells(scale=70)
    found, _ = examined({**columns, "mu": np.full(N_EVENTS, np.nan)})
    assert names(found) == ["magnitude"]
    assert "GeV per unit of η, that of" in found[0].message


def test_towers_that_an_event_has_twice(examined: Any) -> None:
    columns = cells()
    for name in ("eta", "phi", "em", "had"):
        columns[name] = np.concatenate([columns[name], columns[name][:, :30]], axis=1)
    found, _ = examined(columns)
    assert names(found) == ["towers_twice"]
    assert "20.0% of the" in found[0].message


def test_layers_that_the_card_does_not_name(examined: Any) -> None:
    columns = cells()
    index = np.broadcast_to(np.arange(len(CELLS)) % 10, columns["em"].shape).astype(np.float64)
    options = {"layers": {"em": [0, 1, 2, 3], "had": [4, 5, 6, 7, 8]}, "energy": "e"}
    found, _ = examined(
        {**columns, "e": columns["em"], "index": index},
        Grid(GRID.eta_edges, 1, name="rings"),
        options={**options, "layer_index": "index"},
    )
    total = columns["em"].sum()
    left_out = columns["em"][index == 9].sum()
    assert names(found) == ["layers_left_out"]
    assert f"{left_out / total:.1%} of the cells' Σ|E|" in found[0].message
    assert "(index 9)" in found[0].message


def test_nothing_left_by_the_zero_suppression(tmp_path: Path, card_values: dict[str, Any]) -> None:
    write(tmp_path / "sample.root", cells())
    card = card_of(tmp_path, card_values)
    reader = card.open(card.input_files())
    with pytest.raises(ImplausibleInputError, match="zero suppression leaves no cell"):
        ingest(
            reader, GRID, tmp_path / "s.h5", domain="mc", card=card, inputs=[], zero_suppression=500
        )


def test_events_that_are_repeated_are_counted(examined: Any) -> None:
    columns = cells()
    for values in columns.values():
        values[100:] = values[:20]
    found, summary = examined(columns)
    assert summary.census.n_duplicates == 20
    assert "20 of 120 events repeat" in found[0].message


def test_mu_of_some_events_may_be_unknown(examined: Any) -> None:
    columns = cells()
    known = columns["mu"].copy()
    columns["mu"][:10] = np.nan
    summary = examined(columns)[1]
    assert summary.mean_mu == pytest.approx(known[10:].mean(), rel=1e-12)
    assert summary.sd_mu == pytest.approx(known[10:].std(ddof=1), rel=1e-12)


def test_a_layer_that_the_grid_lacks(examined: Any) -> None:
    grid = Grid(GRID.eta_edges, 12, ("em",), name="em_only")
    found, _ = examined(cells(), grid)
    assert names(found, is_error=True) == ["layer_dropped"]
    assert "no layer 'had', which has 5" in found[0].message


def test_names_that_sound_like_transverse_energy(examined: Any) -> None:
    columns = {**cells(), "tower_et": cells()["em"]}
    layers = {"em": "tower_et", "had": "had"}
    found, _ = examined(columns, options={"layers": layers})
    assert names(found) == ["transverse_energy"]
    found, _ = examined(columns, options={"layers": layers, "quantity": "ET"})
    assert names(found) == []


def test_one_branch_in_two_layers(examined: Any) -> None:
    found, _ = examined(cells(), options={"layers": {"em": "em", "had": "em"}})
    assert "layers_alike" in names(found)


def judged(folder: Path, values: dict[str, Any], **card_says: Any) -> list[Finding]:
    """Findings of a sample that is there, by a card that says all of its options."""
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({**values, "units": {"energy": "GeV"}, "mu": "mu", **card_says}))
    card = load_card(path)
    return check_sample(examine(card.open(card.input_files()), GRID, N_EVENTS), card, GRID)


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_places_are_checked_wherever_the_file_has_them(
    tmp_path: Path, card_values: dict[str, Any], kind: str
) -> None:
    columns = doctored(phi=np.degrees)
    if kind == "npz":
        with (tmp_path / "sample.root").open("wb") as archive:
            np.savez(archive, **columns)
    else:
        with h5py.File(tmp_path / "sample.root", "w") as file:
            file.update(columns)
    options = {"eta": "eta", "phi": "phi", "layers": {"em": "em", "had": "had"}}
    found = judged(tmp_path, card_values, format=kind, options=options)
    assert names(found, is_error=True) == ["phi_beyond_turn"]


@pytest.mark.parametrize(
    "options", [{"quantity": "ET"}, {"scale": 37.5}, {"unit": "MeV", "quantity": "ET"}]
)
@pytest.mark.parametrize(("value", "n"), [(-999, 40), (-999, 1), (9999, 3)])
def test_sentinels_are_found_in_the_numbers_of_the_file(
    examined: Any, options: dict[str, Any], value: float, n: int
) -> None:
    found, _ = examined(doctored(em=with_value(value, n)), options=options)
    errors = [one for one in found if one.is_error]
    assert names(errors) == ["sentinel"]
    assert f"exactly {value}" in errors[0].message
    sound, _ = examined(cells(), options=options)
    assert names(sound, is_error=True) == []


def test_sentinels_among_images_of_transverse_energy(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    images = np.random.default_rng(1).exponential(1, (N_EVENTS, *GRID.shape[1:], 2))
    images[::9, 3, 4, 1] = -999
    with h5py.File(tmp_path / "sample.root", "w") as file:
        file["e"], file["mu"] = images, images.sum(axis=(1, 2, 3))
    options = {"dataset": "e", "eta_range": [-2.5, 2.5], "quantity": "ET"}
    found = judged(tmp_path, card_values, format="hdf5", options=options)
    errors = [one for one in found if one.is_error]
    assert "sentinel" in names(errors)
    assert "14 numbers of 'had' are exactly -999" in str(errors)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("had", []),
        ("em", ["layers_alike"]),
        ("nothing", ["layer_silent", "collection_silent"]),
    ],
)
def test_collections_that_are_one_or_empty(
    tmp_path: Path, card_values: dict[str, Any], column: str, expected: list[str]
) -> None:
    write(tmp_path / "sample.root", {**cells(), "nothing": 0 * cells()["em"]})
    layers = {"ecal": {"em": "em"}, "hcal": {"had": column}}
    collections = {name: {"eta": "eta", "phi": "phi", "layers": layers[name]} for name in layers}
    options = {"tree": "cells", "collections": collections}
    assert names(judged(tmp_path, card_values, format="root", options=options)) == expected


def test_energies_a_thousand_apart(examined: Any) -> None:
    mc, data = examined(cells())[1], examined(cells(2, scale=1e-3))[1]
    found = check_pair(mc, data, GRID)
    assert names(found, is_error=True) == ["energy_scale"]
    assert "apart" in found[0].message


def test_layers_and_rings_that_one_domain_lacks(examined: Any) -> None:
    mc = examined(cells())[1]
    silent = cells(2)
    silent["had"][:] = 0
    found = [f for f in check_pair(mc, examined(silent)[1], GRID) if f.name == "silent_in_one"]
    assert [f.message.split(",")[0] for f in found] == ["layer 'had' has no energy in data"]
    ringless = cells(2)
    ringless["em"][:, CELLS[:, 0] > 2] = 0
    (found,) = check_pair(mc, examined(ringless)[1], GRID)
    assert "1 ring of 'em' with no hits in data (η = 2.25), but" in found.message
    thinned = cells(2)
    thinned["em"][:, CELLS[:, 0] > 1] *= np.random.default_rng(1).random((N_EVENTS, 36)) < 0.1
    (found,) = check_pair(mc, examined(thinned)[1], GRID)
    assert found.message.startswith("3 rings of 'em' with 4")
    assert "but 4,320 in mc" in found.message


def test_a_mu_that_counts_something_else_is_not_matched(examined: Any) -> None:
    mc = examined(cells())[1]
    half = cells(2)
    data = examined({**half, "mu": np.round(half["mu"] / 2)})[1]
    (found,) = check_profiles(mc, data, cells()["mu"], np.round(half["mu"] / 2))
    assert found.name == "mu_counts_else"
    assert "--match-mu" not in str(found)
    none = np.zeros(N_EVENTS)
    (found,) = check_profiles(mc, examined({**half, "mu": none})[1], cells()["mu"], none)
    assert found.name == "mu_counts_else"
    lower = examined({**cells(2, scale=0.5), "mu": np.round(half["mu"] / 2)})[1]
    (found,) = check_profiles(mc, lower, cells()["mu"], np.round(half["mu"] / 2))
    assert found.name == "mu_apart"
    assert "--match-mu resample" in found.hint


def test_matching_that_leaves_few_events_or_spoils_them_is_told(examined: Any) -> None:
    data = examined(cells(2))[1]
    mc = examined({**cells(), "mu": np.round(0.6 * cells()["mu"])})[1]
    after = examined(cells(3, scale=1.5))[1]
    found = check_matching(mc, after, data, n_effective=8.0)
    assert names(found) == ["few_matched", "mu_counts_else"]
    assert "leaves 8 of 120 events" in found[0].message
    assert f"with the profile of data mc has {after.mean_sum_et:.4g} GeV" in found[1].message
    lower = examined({**cells(scale=0.6), "mu": np.round(0.6 * cells()["mu"])})[1]
    assert check_matching(lower, after, data, n_effective=110.0) == []


def test_what_is_refused_leaves_no_store(tmp_path: Path, card_values: dict[str, Any]) -> None:
    write(tmp_path / "sample.root", doctored(phi=np.degrees))
    card = card_of(tmp_path, card_values)
    reader = card.open(card.input_files())

    def store(**more: Any) -> None:
        ingest(reader, GRID, tmp_path / "s.h5", domain="mc", card=card, inputs=[], **more)

    with pytest.raises(ImplausibleInputError):
        store()
    assert not list(tmp_path.glob("*.h5*"))
    store(allow=["phi_beyond_turn"])
    assert (tmp_path / "s.h5").is_file()


def test_only_checks_that_exist_are_allowed() -> None:
    require_known(["sentinel"])
    with pytest.raises(ConfigError, match="Did you mean 'sentinel'"):
        require_known(["sentinal"])


def test_weights_weigh_all_means(examined: Any) -> None:
    columns = cells()
    weight = np.where(columns["mu"] > 30, 0.1, 1.9)
    weight[:2] = -1
    _, plain = examined(columns)
    _, summary = examined({**columns, "w": weight}, weight="w")
    energy = columns["em"] + columns["had"]
    sum_et = (energy / np.cosh(columns["eta"])).sum(axis=1)
    assert plain.mean_sum_et == pytest.approx(sum_et.mean(), rel=1e-6)
    assert summary.mean_sum_et == pytest.approx(np.average(sum_et, weights=weight), rel=1e-6)
    assert sum(summary.energy) == pytest.approx(
        np.average(energy.sum(axis=1), weights=weight), rel=1e-6
    )
    assert summary.mean_mu == pytest.approx(np.average(columns["mu"], weights=weight), rel=1e-6)
    assert summary.census.n_negative_weights == 2
    assert summary.census.n_effective == pytest.approx(
        weight.sum() ** 2 / np.square(weight).sum(), rel=1e-9
    )


def test_weights_that_nobody_reads_are_named(examined: Any) -> None:
    columns = cells()
    weight = np.where(columns["mu"] > 30, 0.1, 1.9)
    several = np.stack([weight, 2 * weight], axis=1)
    for name, values, said in (
        ("genWeight", weight, "genWeight"),
        ("mcEventWeights", several, "mcEventWeights[0]"),
    ):
        found, plain = examined({**columns, name: values})
        assert names(found) == ["weights_unread"]
        assert f"the files have '{said}'" in found[0].message
        found, summary = examined({**columns, name: values}, weight=said)
        assert names(found) == []
        assert summary.mean_mu == pytest.approx(np.average(columns["mu"], weights=weight), rel=1e-6)
        assert summary.mean_mu < plain.mean_mu - 1
        assert names(examined({**columns, name: values}, weight="none")[0]) == []
    assert names(examined({**columns, "genWeight": np.ones(N_EVENTS)})[0]) == []
    assert names(examined({**columns, "weighted_eta": weight})[0]) == []
    with pytest.raises(UnreadableInputError, match="no number 2 in every event"):
        examined({**columns, "mcEventWeights": several}, weight="mcEventWeights[2]")


def test_weights_in_a_table_of_features_are_named_or_shown(
    tmp_path: Path, card_values: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        for name in ("pt", "mass", "mcweight"):
            file[name] = rng.exponential(1, N_EVENTS)
        file["weights_of_systematics"] = np.ones((N_EVENTS, 4))
    options = {"features": {"pt": "pt", "mass": "mass"}}
    path = tmp_path / "features.yaml"
    path.write_text(
        yaml.safe_dump({**card_values, "files": "t.h5", "format": "features", "options": options}),
        encoding="utf-8",
    )
    card = load_card(path)
    grid = card.grid
    assert grid is not None
    summary = examine(card.open(card.input_files()), grid, N_EVENTS)
    assert summary.unread_weights == ("mcweight",)
    assert names(check_sample(summary, card, grid)) == ["weights_unread"]
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        file["weight"] = file["mcweight"][:]
        weight = file["weight"][:]
    weighted = examine(card.open(card.input_files()), grid, N_EVENTS)
    assert weighted.unread_weights == ()
    show_comparison({"mc": weighted, "data": summary}, 0.0)
    said = capsys.readouterr().out
    assert "events by weight, effective" in said
    assert f"{weight.sum() ** 2 / np.square(weight).sum():,.0f}" in said


def test_weights_without_a_sum_are_refused(examined: Any) -> None:
    weight = np.where(np.arange(N_EVENTS) % 2, 1.0, -1.0)
    found, _ = examined({**cells(), "w": weight}, weight="w")
    assert "weights" in names(found, is_error=True)


def test_showers_are_not_cut_unasked(tmp_path: Path, card_values: dict[str, Any]) -> None:
    showers = np.random.default_rng(1).exponential(300, (20, 45 * 16 * 9))
    with h5py.File(tmp_path / "sample.h5", "w") as file:
        file["showers"] = showers
    path = tmp_path / "card.yaml"
    values = {**card_values, "files": "sample.h5", "format": "calochallenge"}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    card = load_card(path)
    assert default_suppression([card]) == 0
    summary = ingest(
        card.open(card.input_files()),
        get_grid("calochallenge_2"),
        tmp_path / "s.h5",
        domain="mc",
        card=card,
        inputs=[],
        zero_suppression=default_suppression([card]),
    )
    assert sum(summary.energy) == pytest.approx(1e-3 * showers.sum(axis=1).mean(), rel=1e-6)


def test_the_threshold_has_to_be_given_where_formats_differ(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(card_values), encoding="utf-8")
    delphes, tree = load_card(path), card_of(tmp_path, card_values)
    assert default_suppression([delphes, delphes]) == 0.5
    with pytest.raises(ConfigError, match=r"0\.5 GeV for delphes and 0 GeV for root"):
        default_suppression([delphes, tree])


def test_the_unit_of_the_challenge_is_not_another(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    with h5py.File(tmp_path / "sample.h5", "w") as file:
        file["showers"] = np.random.default_rng(1).exponential(0.3, (20, 45 * 16 * 9))
    path = tmp_path / "card.yaml"
    values = {
        **card_values,
        "files": "sample.h5",
        "format": "calochallenge",
        "units": {"energy": "GeV"},
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    card, grid = load_card(path), get_grid("calochallenge_2")
    found = check_sample(examine(card.open(card.input_files()), grid, 20), card, grid)
    assert "unit_of_format" in names(found, is_error=True)


def test_a_hint_that_many_faults_share_is_given_once() -> None:
    faults = [Finding("sentinel", f"feature {n}", "Leave it out.", is_error=True) for n in (1, 2)]
    with pytest.raises(ImplausibleInputError, match="feature 1; sentinel: feature 2") as refused:
        judge(faults)
    assert refused.value.hint == "Leave it out. If it is meant so: --allow sentinel."
