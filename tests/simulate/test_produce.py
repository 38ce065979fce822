from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml

from pileupgen.calo.presets import get_grid
from pileupgen.errors import GeneratorError, OutputError
from pileupgen.samples.cards import load_card
from pileupgen.samples.delphes_file import Container
from pileupgen.samples.ingest import ingest
from pileupgen.samples.store import ImageStore
from pileupgen.simulate import pool as pool_module
from pileupgen.simulate.pool import pool_path
from pileupgen.simulate.produce import default_cache, is_current, make_sample, n_units
from pileupgen.simulate.spec import SampleSpec

pytest.importorskip("chromo")

SPEC = SampleSpec(generator="pythia6", pool_size=60, n_events=12, mu=8, seed=5)


def towers(path: Path) -> dict[str, bytes]:
    with uproot.open(path) as file:
        arrays = file["Delphes"].arrays()
    return {
        name: np.asarray(ak.flatten(arrays[name], axis=None)).tobytes() for name in arrays.fields
    }


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    seen: list[int] = []
    summary = make_sample(
        SPEC,
        folder / "sample.root",
        lambda n=1, note="": seen.append(n),
        cache=folder / "cache",
        workers=1,
    )
    assert sum(seen) == n_units(SPEC) == 72
    assert summary.n_events == 12
    assert [was_cached for _, was_cached in summary.pools] == [False]
    assert summary.mean_mu == pytest.approx(8, abs=4)
    return folder / "sample.root"


def test_nothing_but_the_sample_and_its_pool_is_left(sample: Path) -> None:
    assert sorted(path.name for path in sample.parent.iterdir()) == ["cache", "sample.root"]
    assert list((sample.parent / "cache").iterdir()) == [pool_path(SPEC, sample.parent / "cache")]


def test_workers_and_cache_do_not_matter(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = make_sample(SPEC, tmp_path / "again.root", workers=3)
    assert again.pools == ()
    assert towers(again.path) == towers(sample)
    cached = make_sample(SPEC, tmp_path / "cached.root", cache=sample.parent / "cache")
    assert [was_cached for _, was_cached in cached.pools] == [True]
    assert towers(cached.path) == towers(sample)


def test_pool_of_several_chunks_does_not_depend_on_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "CHUNK", 25)
    pools = []
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        pools.append(pool_module.make_pool(SPEC, folder, workers))
    for name, values in pools[0].arrays().items():
        np.testing.assert_array_equal(values, getattr(pools[1], name))
    first, second = pools[0].offsets[[25, 50]]
    assert not np.array_equal(pools[0].px[:first][:50], pools[0].px[first:second][:50])


def test_shorter_sample_is_the_beginning_of_the_longer(sample: Path, tmp_path: Path) -> None:
    shorter = SPEC.model_copy(update={"n_events": 4})
    made = make_sample(shorter, tmp_path / "short.root", cache=sample.parent / "cache")
    for name, values in towers(made.path).items():
        assert towers(sample)[name].startswith(values)


def test_other_seed_other_events(sample: Path, tmp_path: Path) -> None:
    other = make_sample(SPEC.model_copy(update={"seed": 6}), tmp_path / "other.root")
    assert towers(other.path)["Tower.Eem"] != towers(sample)["Tower.Eem"]


def test_sample_knows_its_spec(sample: Path) -> None:
    assert is_current(SPEC, sample)
    assert not is_current(SPEC.model_copy(update={"mu": 9}), sample)
    assert not is_current(SPEC, sample.with_name("none.root"))


def test_damaged_pool_is_made_anew(sample: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    pool_path(SPEC, cache).write_bytes(b"no pool")
    made = make_sample(SPEC, tmp_path / "a.root", cache=cache)
    assert not any(was_cached for _, was_cached in made.pools)
    assert towers(made.path) == towers(sample)


def test_failure_leaves_no_junk(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"sqrt_s": 1.0})
    with pytest.raises(GeneratorError):
        make_sample(spec, tmp_path / "a.root", cache=tmp_path / "cache")
    assert not list(tmp_path.iterdir())


def test_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        make_sample(SPEC, tmp_path / "file" / "a.root")


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILEUPGEN_CACHE", "here")
    assert default_cache() == Path("here")
    monkeypatch.delenv("PILEUPGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "there")
    assert default_cache() == Path("there/pileupgen")


@pytest.mark.parametrize("container", ["ttree", "rntuple"])
def test_splits_of_a_sample_with_separate_pools_have_no_interaction_in_common(
    tmp_path: Path, card_values: dict[str, Any], container: Container
) -> None:
    shares = ((0.5, 2.0), (0.25, 2.0), (0.25, 1.0))
    spec = SPEC.model_copy(update={"n_events": 16, "separate_pools": shares})
    cache = tmp_path / "cache"
    made = make_sample(spec, tmp_path / "s.root", cache=cache, workers=1, container=container)
    assert made.pools == ()
    assert not cache.exists()
    values = card_values | {"files": ["s.root"], "checksum": {}, "mu": 8}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    card = load_card(tmp_path / "card.yaml")
    ingest(
        card.open(card.input_files()),
        get_grid("atlas"),
        tmp_path / "s.h5",
        domain="mc",
        card=card,
        inputs=[],
        fractions=(0.5, 0.25, 0.25),
    )
    columns = ImageStore(tmp_path / "s.h5").columns
    assert np.bincount(columns["split"]).tolist() == [8, 4, 4]
    pairs = set(zip(columns["group"].tolist(), columns["split"].tolist(), strict=True))
    assert len(pairs) == 3
    assert (0, 0) in pairs
