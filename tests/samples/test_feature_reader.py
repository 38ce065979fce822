from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pileupgen.calo.geometry import FEATURES, Grid, require_same_grid
from pileupgen.calo.imaging import Imager
from pileupgen.calo.presets import get_grid
from pileupgen.errors import (
    CardError,
    GeometryError,
    InputError,
    MissingFieldError,
    MissingInputError,
    UnreadableInputError,
)
from pileupgen.samples.cards import load_card
from pileupgen.samples.readers import FORMATS, MuSource, Span
from pileupgen.samples.readers.base import EventColumn
from pileupgen.samples.readers.feature_files import ColumnPlace
from pileupgen.samples.readers.features import FeatureOptions, FeatureReader

N_EVENTS = 2500
NAMES = ("pt", "eta", "tau21", "n")
UNITS = ("GeV", "", "", "")


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    """Features (N, 4): positive, signed, a fraction, a count."""
    rng = np.random.default_rng(3)
    return np.stack(
        [
            rng.exponential(200, N_EVENTS) + 500,
            rng.normal(0, 1.2, N_EVENTS),
            rng.beta(3, 2, N_EVENTS),
            rng.poisson(20, N_EVENTS),
        ],
        axis=1,
    ).astype(np.float32)


def write_hdf5(path: Path, table: np.ndarray) -> dict[str, Any]:
    compound = np.zeros(len(table), dtype=[("tau21", "f4"), ("n", "i2")])
    compound["tau21"], compound["n"] = table[:, 2], table[:, 3]
    with h5py.File(path, "w") as file:
        file["jets/kinematics"] = table[:, :2].astype(np.float64)
        file["jets/kinematics"].attrs["columns"] = ["jet_pt", "jet_eta"]
        file["jets/shape"] = compound
        file["mu"] = np.arange(len(table))
    return {
        "pt": {"column": "jets/kinematics[0]", "unit": "GeV"},
        "eta": "jets/kinematics[jet_eta]",
        "tau21": "jets/shape/tau21",
        "n": "jets/shape/n",
    }


def write_parquet(path: Path, table: np.ndarray) -> dict[str, Any]:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    values = np.ascontiguousarray(table[:, :2].astype(np.float64).ravel())
    columns = {
        "kinematics": pa.FixedSizeListArray.from_arrays(pa.array(values), 2),
        "tau21": pa.array(table[:, 2]),
        "n": pa.array(table[:, 3].astype(np.int64)),
        "mu": pa.array(np.arange(len(table))),
    }
    parquet.write_table(pa.table(columns), path, row_group_size=700)
    return {
        "pt": {"column": "kinematics[0]", "unit": "GeV"},
        "eta": "kinematics[1]",
        "tau21": "tau21",
        "n": "n",
    }


def write_root(path: Path, table: np.ndarray) -> dict[str, Any]:
    with uproot.recreate(path) as file:
        types = {"tau21": "float32", "n": "int32", "mu": "int32", "jagged": "var * float64"}
        tree = file.mktree("jets", {"kin": "2 * float64", **types})
        for rows in np.array_split(np.arange(len(table)), 3):
            tree.extend(
                {
                    "kin": table[rows, :2].astype(np.float64),
                    "tau21": table[rows, 2],
                    "n": table[rows, 3].astype(np.int32),
                    "mu": rows.astype(np.int32),
                    "jagged": ak.Array([[0.0] * (1 + row % 2) for row in rows]),
                }
            )
    return {
        "pt": {"column": "kin[0]", "unit": "GeV"},
        "eta": "kin[1]",
        "tau21": "tau21",
        "n": "n",
    }


WRITERS = {"h5": write_hdf5, "parquet": write_parquet, "root": write_root}


@pytest.fixture(params=WRITERS)
def file_and_features(request, tmp_path, table) -> tuple[Path, dict[str, Any]]:
    path = tmp_path / f"table.{request.param}"
    return path, WRITERS[request.param](path, table)


def reader_of(path: Path, features: dict[str, Any], mu: str | float = "mu") -> FeatureReader:
    options = FeatureOptions(features=features, tree="jets" if path.suffix == ".root" else None)
    return FeatureReader([path], options, MuSource.parse(mu))


def test_features_are_layers_of_a_single_cell(file_and_features, table):
    path, features = file_and_features
    reader = reader_of(path, features)
    grid = FeatureOptions(features=features).grid
    assert grid.shape == (4, 1, 1)
    assert grid.layers == NAMES
    assert grid.units == UNITS
    assert not grid.is_periodic
    assert not grid.is_eta_symmetric
    imager = Imager(grid)
    drawn, outside, mus = [], 0.0, []
    for towers in reader.chunks():
        images, lost = imager.draw(towers)
        drawn.append(images)
        outside += np.abs(lost).sum()
        mus.append(towers.mu)
    images = np.concatenate(drawn)
    assert outside == 0
    assert np.array_equal(images[:, :, 0, 0], table)
    assert np.array_equal(np.concatenate(mus), np.arange(N_EVENTS))


def test_any_span_reads_the_same_numbers(file_and_features, table):
    path, features = file_and_features
    reader = reader_of(path, features, mu=3.0)
    for begin, end in ((1300, 2500), (0, 10), (699, 1402), (2499, 2500)):
        found = list(reader.read(Span(0, begin, end, 100)))
        assert np.array_equal(np.concatenate([part.energy for part in found]), table[begin:end])
        assert found[0].event_id[0] == 100 + begin
        assert np.all(found[0].mu == 3.0)
    reader.close()


def test_groups_are_those_of_all_events(file_and_features, table):
    path, features = file_and_features
    reader = pickle.loads(pickle.dumps(reader_of(path, features, mu=3.0)))
    for column, expected in (("mu", np.arange(N_EVENTS)), (features["n"], table[:, 3])):
        reader.group_by(EventColumn.parse(column, ()))
        found = np.concatenate([towers.group for towers in reader.chunks()])
        assert np.array_equal(found, expected)
        for begin, end in ((1300, 2500), (699, 1402)):
            parts = list(reader.read(Span(0, begin, end, 0)))
            assert np.array_equal(np.concatenate([part.group for part in parts]), found[begin:end])
    assert pickle.loads(pickle.dumps(reader)).n_events(0) == N_EVENTS
    reader.close()
    reader.group_by(EventColumn.parse("nowhere", ()))
    with pytest.raises(MissingFieldError, match="no 'nowhere', which by the card tells"):
        list(reader.chunks())


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("nowhere", ["nowhere"]),
        ("mu[3]", ["mu[3]", "one number an event"]),
    ],
)
def test_a_column_that_is_not_there_is_named(file_and_features, column, words):
    path, features = file_and_features
    reader = reader_of(path, {**features, "pt": column})
    with pytest.raises(MissingFieldError) as caught:
        list(reader.chunks())
    for word in (path.name, *words):
        assert word in str(caught.value)


def test_near_names_are_told(tmp_path, table):
    features = write_hdf5(tmp_path / "table.h5", table)
    for column, near in (
        ("jets/shape/tau12", "jets/shape/tau21"),
        ("jets/kinematics[pt]", "jet_pt"),
    ):
        with pytest.raises(MissingFieldError, match=near):
            list(reader_of(tmp_path / "table.h5", {**features, "pt": column}).chunks())


def test_jagged_branches_are_refused(tmp_path, table):
    features = write_root(tmp_path / "table.root", table)
    with pytest.raises(UnreadableInputError, match=r"jagged.*1 to 2 numbers"):
        list(reader_of(tmp_path / "table.root", {**features, "pt": "jagged[0]"}).chunks())


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_numbers_that_are_not_finite_are_named_with_their_event(tmp_path, table, bad):
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        values = table.astype(np.float64)
        values[1234, 2] = bad
        file["table"] = values
    features = {name: f"table[{place}]" for place, name in enumerate(NAMES)}
    with pytest.raises(UnreadableInputError, match=r"bad\.h5, event 1234: tau21 = (nan|inf)"):
        list(reader_of(tmp_path / "bad.h5", features, mu="unknown").chunks())


def test_damaged_and_missing_files_are_named(file_and_features, tmp_path):
    path, features = file_and_features
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(UnreadableInputError, match="cut"):
        list(reader_of(cut, features).chunks())
    with pytest.raises(MissingInputError, match="absent"):
        list(reader_of(tmp_path / f"absent{path.suffix}", features).chunks())


def test_files_of_unequal_columns_strings_and_other_names_are_refused(tmp_path, table):
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["a"], file["b"], file["words"] = np.zeros(5), np.zeros(6), np.array([b"x"] * 5)
    with pytest.raises(UnreadableInputError, match="5 and 6 events"):
        list(reader_of(tmp_path / "odd.h5", {"a": "a", "b": "b"}, mu=1.0).chunks())
    with pytest.raises(UnreadableInputError, match="words"):
        list(reader_of(tmp_path / "odd.h5", {"a": "words"}, mu=1.0).chunks())
    (tmp_path / "table.csv").write_text("pt\n1\n")
    with pytest.raises(CardError, match=r"table\.csv"):
        list(reader_of(tmp_path / "table.csv", {"pt": "pt"}, mu=1.0).chunks())
    write_root(tmp_path / "table.root", table)
    options = FeatureOptions(features={"n": "n"})
    with pytest.raises(CardError, match="tree"):
        list(FeatureReader([tmp_path / "table.root"], options, MuSource.parse(1.0)).chunks())


def test_nulls_in_parquet_are_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({"pt": [1.0, None, 3.0]}), tmp_path / "nulls.parquet")
    with pytest.raises(UnreadableInputError, match="1 nulls"):
        list(reader_of(tmp_path / "nulls.parquet", {"pt": "pt"}, mu=1.0).chunks())


def test_places_are_parsed():
    assert ColumnPlace.parse("a/b[1, 2]") == ColumnPlace("a/b", (1, 2))
    assert str(ColumnPlace.parse("a[x]")) == "a[x]"
    for text in ("", "[1]", "a[", "a]b"):
        with pytest.raises(ValueError, match="column"):
            ColumnPlace.parse(text)


def card_of(folder: Path, card_values: dict[str, Any], **changes: Any) -> Path:
    values = {
        **card_values,
        "format": "features",
        "files": ["table.h5"],
        "detector": {"text": "none"},
        "options": {"features": {"pt": {"column": "jets/kinematics[0]", "unit": "GeV"}}},
        **changes,
    }
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_a_card_sets_its_own_grid(tmp_path, card_values, table):
    write_hdf5(tmp_path / "table.h5", table)
    card = load_card(card_of(tmp_path, card_values))
    assert card.grid == Grid.of_features(["pt"], ["GeV"])
    assert FORMATS["features"].mu == "unknown"
    changed = load_card(card_of(tmp_path, card_values, units={"energy": "MeV"}))
    with pytest.raises(CardError, match=r"units\.energy"):
        changed.open(changed.input_files())


def test_cards_check_draws_features_with_their_units(
    tmp_path, card_values, table, monkeypatch, capsys
):
    from pileupgen.cli.cards import check_card

    monkeypatch.chdir(tmp_path)
    write_hdf5(tmp_path / "table.h5", table)
    check_card(str(card_of(tmp_path, card_values)))
    said = capsys.readouterr().out
    assert "pt [GeV]" in said
    assert "E_T" not in said
    assert (tmp_path / "runs" / "cards" / "sample.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "options.features"),
        ({"features": {}}, "features"),
        ({"features": {"p t": "pt"}}, "letters"),
        ({"features": {"pt": {"colum": "pt"}}}, "colum"),
        ({"features": {"pt": "a[b"}}, "a[b"),
    ],
)
def test_cards_with_bad_features_are_refused(tmp_path, card_values, options, words):
    with pytest.raises(CardError) as caught:
        load_card(card_of(tmp_path, card_values, options=options))
    assert words in str(caught.value)


def test_grids_of_features_keep_their_units():
    grid = Grid.of_features(NAMES, UNITS)
    assert Grid.from_dict(grid.to_dict()) == grid
    with pytest.raises(GeometryError, match="units"):
        require_same_grid(grid, Grid.of_features(NAMES, ("MeV", "", "", "")), "it", "the other")
    with pytest.raises(GeometryError, match="2 units for 4 features"):
        Grid.of_features(NAMES, UNITS[:2])
    with pytest.raises(GeometryError, match="one cell"):
        Grid((0.0, 1.0), 2, ("a",), units=("",))
    with pytest.raises(GeometryError, match="feature tables"):
        get_grid(FEATURES)
    assert "units" not in get_grid("atlas").to_dict()


IN_TMP_PATH = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FINITE = st.floats(-(2.0**100), 2.0**100, width=32)


@pytest.mark.parametrize("suffix", ["h5", "root"])
@IN_TMP_PATH
@given(
    values=arrays(np.float32, st.tuples(st.integers(1, 40), st.just(2)), elements=FINITE),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_table_and_span_is_read_bit_by_bit(tmp_path, suffix, values, ends):
    path = tmp_path / f"any.{suffix}"
    if suffix == "h5":
        with h5py.File(path, "w") as file:
            file["a"], file["b"] = values[:, 0], values[:, 1].astype(np.float64)
    else:
        with uproot.recreate(path) as file:
            tree = file.mktree("jets", {"a": "float32", "b": "float64"})
            for part in np.array_split(values, 3):
                tree.extend({"a": part[:, 0], "b": part[:, 1].astype(np.float64)})
    begin, end = sorted(round(place * len(values)) for place in ends)
    reader = reader_of(path, {"a": "a", "b": "b"}, mu=0.0)
    found = [part.energy for part in reader.read(Span(0, begin, end, 0))]
    reader.close()
    assert np.array_equal(np.concatenate([np.empty((0, 2), np.float32), *found]), values[begin:end])


@pytest.fixture(scope="module")
def whole_files(table, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for suffix, write in WRITERS.items():
        features = write(folder / f"f.{suffix}", table[:200])
        (folder / f"{suffix}.yaml").write_text(yaml.safe_dump(features))
    return folder


@pytest.mark.parametrize("suffix", WRITERS)
@IN_TMP_PATH
@example(place=0.11, damage=b"\x01")  # a ROOT branch then ends early
@given(place=st.floats(0, 1), damage=st.binary(min_size=1, max_size=100))
def test_a_damaged_table_is_read_or_refused_by_name(tmp_path, whole_files, suffix, place, damage):
    whole = (whole_files / f"f.{suffix}").read_bytes()
    features = yaml.safe_load((whole_files / f"{suffix}.yaml").read_text())
    path = tmp_path / f"damaged.{suffix}"
    begin = int(place * (len(whole) - len(damage)))
    path.write_bytes(whole[:begin] + damage + whole[begin + len(damage) :])
    said = str(path)
    try:
        list(reader_of(path, features).chunks())
    except InputError as error:
        said = error.message
    assert str(path) in said
