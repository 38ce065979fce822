from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pileupgen.calo.imaging import towers_to_images
from pileupgen.calo.presets import get_grid
from pileupgen.errors import CardError, InputError, MissingFieldError, UnreadableInputError
from pileupgen.samples.cards import load_card
from pileupgen.samples.ingest import IngestSummary, describe_inputs, ingest
from pileupgen.samples.readers import MuSource
from pileupgen.samples.readers.delphes import DelphesOptions, DelphesReader
from pileupgen.samples.splits import assign_group_splits, assign_splits
from pileupgen.samples.store import ImageStore
from tests.sample_files import (
    delphes_branches,
    jagged,
    random_towers,
    write_delphes,
    write_tree,
)

ATLAS = get_grid("atlas")
FRACTIONS = (0.6, 0.15, 0.25)


def run(card_path: Path, out: Path, **settings: Any) -> IngestSummary:
    card = load_card(card_path)
    files = card.input_files()
    return ingest(
        card.open(files),
        ATLAS,
        out,
        domain="mc",
        card=card,
        inputs=describe_inputs(card, files),
        **settings,
    )


def test_a_card_becomes_a_store(card_path: Path, tmp_path: Path) -> None:
    done: list[int] = []

    def advance(n: int = 1, note: str = "") -> None:
        done.append(n)

    summary = run(card_path, tmp_path / "s.h5", fractions=FRACTIONS, seed=3, advance=advance)
    store, towers = ImageStore(tmp_path / "s.h5"), random_towers(60, seed=1)
    images = store.read()
    assert np.array_equal(images.energy, towers_to_images(towers, ATLAS)[0])
    assert np.array_equal(images.mu, towers.mu)
    assert list(images.event_id) == list(range(60))
    assert np.all(images.weight == 1.0)
    assert np.array_equal(images.columns["split"], assign_splits(0, 60, FRACTIONS, 3))
    assert sum(done) == summary.n_events == len(store) == 60
    assert summary.n_towers == towers.n_towers
    assert summary.n_shared == 0


def test_the_summary_says_what_numpy_says(card_path: Path, tmp_path: Path) -> None:
    summary = run(card_path, tmp_path / "s.h5", zero_suppression=1.0)
    images = ImageStore(tmp_path / "s.h5").read()
    before, outside = towers_to_images(random_towers(60, seed=1), ATLAS)
    energy = images.energy.astype(np.float64)
    e_t = energy / np.cosh(ATLAS.eta_centres)[:, None]
    assert np.allclose(summary.energy, energy.sum(axis=(2, 3)).mean(axis=0), rtol=1e-5)
    assert np.allclose(summary.energy_outside, outside.mean(axis=0), atol=1e-6)
    assert np.allclose(
        np.add(summary.energy, summary.energy_suppressed),
        before.sum(axis=(2, 3), dtype=float).mean(axis=0),
        rtol=1e-5,
    )
    assert summary.mean_sum_et == pytest.approx(e_t.sum(axis=(1, 2, 3)).mean(), rel=1e-5)
    assert summary.sd_sum_et == pytest.approx(e_t.sum(axis=(1, 2, 3)).std(ddof=1), rel=1e-5)
    assert summary.mean_mu == pytest.approx(images.mu.mean(dtype=float))
    assert summary.sd_mu == pytest.approx(images.mu.std(ddof=1, dtype=float))
    assert np.allclose(summary.occupancy, (energy > 0).mean(axis=(0, 2, 3)))
    n_before = (before > 0).sum(axis=(0, 2, 3))
    expected = 1 - (energy > 0).sum(axis=(0, 2, 3)) / n_before
    assert np.allclose(summary.suppressed, expected)
    assert min(expected) > 0.2
    assert IngestSummary.from_dict(json.loads(json.dumps(summary.to_dict()))) == summary


def test_zero_suppression_empties_what_is_below_and_nothing_else(
    card_path: Path, tmp_path: Path
) -> None:
    run(card_path, tmp_path / "off.h5")
    run(card_path, tmp_path / "on.h5", zero_suppression=1.5)
    off, on = (ImageStore(tmp_path / name).read().energy for name in ("off.h5", "on.h5"))
    assert np.array_equal(on, np.where(off < 1.5, 0, off))


def test_the_same_input_and_seed_make_the_same_bytes(
    card_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(card_path, tmp_path / "a.h5", seed=5)
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("sample.root", "sample.yaml"):
        (elsewhere / name).write_bytes((tmp_path / name).read_bytes())
    run(elsewhere / "sample.yaml", Path("b.h5"), seed=5)
    run(card_path, tmp_path / "c.h5", seed=6)
    first, second, third = ((tmp_path / name).read_bytes() for name in ("a.h5", "b.h5", "c.h5"))
    assert first == second
    assert first != third


def test_chunks_do_not_show(
    card_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(card_path, tmp_path / "a.h5")
    monkeypatch.setattr("pileupgen.samples.readers.files.MAX_CHUNK_EVENTS", 7)
    run(card_path, tmp_path / "b.h5")
    first, second = (ImageStore(tmp_path / name).read() for name in ("a.h5", "b.h5"))
    assert np.array_equal(first.energy, second.energy)
    for name, column in first.columns.items():
        assert np.array_equal(column, second.columns[name])


def test_provenance_names_inputs_by_hash_and_no_paths(card_path: Path, tmp_path: Path) -> None:
    run(card_path, tmp_path / "s.h5", max_events=12)
    provenance = ImageStore(tmp_path / "s.h5").provenance
    content = (tmp_path / "sample.root").read_bytes()
    assert provenance["inputs"] == [
        {
            "name": "sample.root",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    ]
    assert provenance["card"]["what"] == "made by a test"
    assert provenance["settings"]["max_events"] == 12
    assert {"pileupgen", "numpy", "uproot", "h5py"} <= set(provenance["versions"])
    assert str(tmp_path) not in json.dumps(provenance)
    assert len(ImageStore(tmp_path / "s.h5")) == 12


def test_mu_that_is_not_known_is_nan(
    card_path: Path, tmp_path: Path, card_values: dict[str, Any]
) -> None:
    card_path.write_text(yaml.safe_dump({**card_values, "mu": "unknown"}), encoding="utf-8")
    summary = run(card_path, tmp_path / "s.h5")
    assert np.isnan(summary.mean_mu)
    assert np.all(np.isnan(ImageStore(tmp_path / "s.h5").read().mu))


def test_checksums_are_verified(
    card_path: Path, tmp_path: Path, card_values: dict[str, Any]
) -> None:
    digest = hashlib.sha256((tmp_path / "sample.root").read_bytes()).hexdigest()

    def check(checksum: dict[str, str]) -> None:
        values = {**card_values, "checksum": checksum}
        card_path.write_text(yaml.safe_dump(values), encoding="utf-8")
        card = load_card(card_path)
        describe_inputs(card, card.input_files())

    check({"sample.root": digest.upper()})
    with pytest.raises(CardError, match=f"SHA-256 is {digest}"):
        check({"sample.root": "0" * 64})
    with pytest.raises(CardError, match=r"'sampel\.root', which is not among") as caught:
        check({"sampel.root": digest})
    assert "sample.root" in caught.value.hint


def test_no_events_make_no_store(
    card_path: Path, tmp_path: Path, card_values: dict[str, Any]
) -> None:
    write_delphes(tmp_path / "sample.root", random_towers(1, 1))
    card = load_card(card_path)

    class Nothing(DelphesReader):
        def n_events(self, file: int) -> int:
            return 0

    reader = Nothing(card.input_files(), DelphesOptions(), MuSource.parse(60))
    with pytest.raises(UnreadableInputError, match="'sample' holds no events"):
        ingest(reader, ATLAS, tmp_path / "s.h5", domain="mc", card=card, inputs=[])
    assert not (tmp_path / "s.h5").exists()


def test_a_bad_event_leaves_no_store(card_path: Path, tmp_path: Path) -> None:
    towers = random_towers(60, seed=1)
    towers.energy[towers.offsets[40], 0] = np.nan
    write_delphes(tmp_path / "sample.root", towers)
    with pytest.raises(UnreadableInputError, match=r"sample\.root, event 40"):
        run(card_path, tmp_path / "s.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sample.root", "sample.yaml"]


def test_real_sums_inside_the_acceptance(shared_data: Path, tmp_path: Path) -> None:
    """What the README of the files says was measured within |η| < 2.5."""
    folder = Path(__file__).parents[2] / "data_cards"
    mc, data = (
        run(folder / f"{name}.yaml", tmp_path / f"{name}.h5")
        for name in ("delphes_mc", "delphes_data")
    )
    assert mc.mean_sum_et == pytest.approx(1634, abs=1)
    assert mc.sd_sum_et == pytest.approx(367, abs=1)
    assert data.mean_sum_et == pytest.approx(1474, abs=1)
    assert data.sd_sum_et == pytest.approx(345, abs=1)
    assert mc.energy[0] / sum(mc.energy) == pytest.approx(0.306, abs=1e-3)
    assert data.energy[0] / sum(data.energy) == pytest.approx(0.535, abs=1e-3)
    assert mc.occupancy == pytest.approx((0.41, 0.33), abs=0.005)
    assert data.occupancy == pytest.approx((0.55, 0.25), abs=0.005)
    assert mc.n_shared == 0


def grouped(tmp_path: Path, values: dict[str, Any], numbers: Any, **heading: Any) -> Path:
    """Card of a file whose events have numbers of groups."""
    towers = random_towers(len(numbers), seed=1)
    branches = delphes_branches(towers)
    branches["Event.Pool"] = jagged(np.ones(len(numbers), dtype=np.int64), np.asarray(numbers))
    write_tree(tmp_path / "f.root", branches)
    card = values | {"files": ["f.root"], "checksum": {}} | heading
    (tmp_path / "grouped.yaml").write_text(yaml.safe_dump(card), "utf-8")
    return tmp_path / "grouped.yaml"


def test_events_that_belong_together_lie_in_one_split(
    card_values: dict[str, Any], tmp_path: Path
) -> None:
    group = np.random.default_rng(1).integers(0, 12, 200)
    run(grouped(tmp_path, card_values, group), tmp_path / "s.h5", fractions=FRACTIONS, seed=3)
    columns = ImageStore(tmp_path / "s.h5").columns
    assert np.array_equal(columns["group"], group)
    assert np.array_equal(columns["split"], assign_group_splits(group, FRACTIONS, 3))
    # Another branch, or none, by the card.
    card = grouped(tmp_path, card_values, group, group="none")
    run(card, tmp_path / "s.h5", fractions=FRACTIONS, seed=3)
    columns = ImageStore(tmp_path / "s.h5").columns
    assert "group" not in columns
    assert np.array_equal(columns["split"], assign_splits(0, 200, FRACTIONS, 3))


@pytest.mark.parametrize(
    ("group", "heading", "error", "message"),
    [
        ([0.0] * 9 + [0.5], {}, UnreadableInputError, "event 9: its group is 0.5, no whole"),
        ([4] * 10, {}, InputError, "1 group of events of 10 at most leave no event"),
        ([4] * 10, {"group": "Run"}, MissingFieldError, "no 'Run', which by the card tells"),
    ],
)
def test_groups_that_cannot_be_used_are_refused(
    card_values: dict[str, Any],
    tmp_path: Path,
    group: list[float],
    heading: dict[str, str],
    error: type[InputError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        run(grouped(tmp_path, card_values, group, **heading), tmp_path / "s.h5")
    assert not (tmp_path / "s.h5").exists()


def test_files_with_and_without_groups_do_not_mix(
    card_values: dict[str, Any], tmp_path: Path
) -> None:
    write_delphes(tmp_path / "g.root", random_towers(20, seed=2))
    card = grouped(tmp_path, card_values, np.arange(20) % 5, files=["f.root", "g.root"])
    with pytest.raises(UnreadableInputError, match="some files say which events belong together"):
        run(card, tmp_path / "s.h5")
