"""Production: resuming, shards, draws, ensembles and bad requests, byte by byte."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from pileupgen.diffusion import production
from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.shard import Shard
from pileupgen.errors import (
    ConfigError,
    MissingInputError,
    OutputError,
    RunError,
    StoreError,
)
from pileupgen.run import RunDirectory
from pileupgen.samples.store import ImageStore
from pileupgen.workflow.translate import _target_period
from tests.overlay.overlay_inputs import write_events

PLAIN = ("--t-release", "300", "--w", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def plain(tiny_run, command) -> Path:
    target = tiny_run / "out" / "plain.h5"
    command("translate", "--run", tiny_run, *PLAIN, "-o", target)
    return target


def test_a_translated_store_says_what_it_is(plain):
    store = ImageStore(plain)
    assert len(store) == 125
    assert set(store.columns["t_release"]) == {300}
    assert not store.columns["draw"].any()
    assert not store.columns["member"].any()
    clipped = np.exp(np.clip(store.columns["log_ratio"], -5, 5))
    np.testing.assert_allclose(store.columns["release_weight"], clipped)
    # What a validation takes unless asked is what goes out as the event's weight.
    assert np.all(store.columns["weight"] == 1)
    assert store.provenance["guidance"] == "closed-form"
    assert store.provenance["weights"]["limit"] == 5.0
    assert 0 < store.provenance["weights"]["ess"] <= 1
    assert store.provenance["period"] is None


@pytest.mark.parametrize(("target", "period"), [("data", "2018B"), ("mc", "2017A")])
def test_translated_events_have_the_period_of_their_target(tmp_path, target, period):
    directory = RunDirectory(tmp_path)
    for domain, named in (("mc", "2017A"), ("data", "2018B")):
        card = {"card": {"detector": {"period": named}}}
        write_events(directory.images(domain), 3, 1, provenance=card)
    assert _target_period(directory, Direction("mc", target)) == period
    assert _target_period(RunDirectory(tmp_path / "model_only"), Direction()) is None


SLOW_TO_IMPORT = (
    "accelerate",
    "diffusers",
    "matplotlib",
    "pandas",
    "pileupgen.diffusion.for_diffusers",
    "pileupgen.training",
    "scipy.stats",
    "sklearn",
    "sympy",
    "torch._dynamo",
    "uproot",
)
"""Modules that cost a tenth of a second or more, and have nothing to do in a translation."""


def test_a_translation_begins_without_modules_that_are_slow_to_import(tiny_run, plain, tmp_path):
    arguments = ["translate", "--run", str(tiny_run), *PLAIN, "-o", str(tmp_path / "again.h5")]
    code = (
        f"import sys; sys.argv[1:] = {arguments}\n"
        "from pileupgen.cli.main import main\n"
        "try:\n    main()\nfinally:\n    print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {"torch", "pileupgen.diffusion.production"} <= loaded
    assert sorted(loaded.intersection(SLOW_TO_IMPORT)) == []
    ours, others = (ImageStore(path).read() for path in (tmp_path / "again.h5", plain))
    assert np.array_equal(ours.energy, others.energy)


def test_a_sample_unlike_the_trainings_is_told_and_judged(tiny_run, command, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    path = run / "data" / "mc.h5"
    with h5py.File(path, "r+") as file:
        file["images"][...] = 1.3 * file["images"][...]
    out = command("translate", "--run", run, *PLAIN, "--mode", "calibrate")
    assert "the sample is not like the training's: the means of 125 events are" in out
    assert (
        ImageStore(run / "translated" / "mc_to_data.h5").provenance["sample_check"]["n_events"]
        == 125
    )
    command("validate", "--run", run, "--quick", "--no-ladder")
    metrics = json.loads((run / "validation" / "metrics.json").read_text())
    found = metrics["source_check"]
    assert found["is_unlike"]
    assert found["significance"] > 5
    assert found["n_events"] == 125
    assert "not like those of the training" in (run / "validation" / "report.html").read_text()


def test_a_killed_job_goes_on_where_it_stood(plain, tiny_run, command, tmp_path, monkeypatch):
    monkeypatch.setattr(production, "BLOCK_EVENTS", 50)
    target = tmp_path / "plain.h5"
    args = ("translate", "--run", tiny_run, *PLAIN, "-o", target)
    kept = production.Production.translate
    done: list[int] = []

    def killed_in_the_second_block(self, rows, advance=lambda n: None):
        if done:
            raise KeyboardInterrupt
        done.append(len(rows))
        yield from kept(self, rows, advance)

    with monkeypatch.context() as patch:
        patch.setattr(production.Production, "translate", killed_in_the_second_block)
        with pytest.raises(Exception, match="Interrupted"):
            command(*args)
    assert not target.exists()
    (folder,) = tmp_path.glob(".plain.h5.blocks-*")
    finished = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.h5")}
    assert len(finished) == 1
    (folder / "000001.h5").write_bytes(b"torn")  # a damaged block is made again
    out = command(*args)
    assert "50 of 125 events are there" in out
    assert target.read_bytes() == plain.read_bytes()
    assert not list(tmp_path.glob(".plain.h5*"))


def test_a_damaged_correction_is_fitted_anew(plain, tiny_run, command, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns("out"))
    kept = list((run / "correction").glob("*/*.safetensors"))
    assert kept
    for file in kept:
        file.write_bytes(file.read_bytes()[:100])
    command("translate", "--run", run, *PLAIN, "-o", tmp_path / "again.h5")
    rows = slice(0, 125)
    found, expected = (ImageStore(path).read(rows) for path in (tmp_path / "again.h5", plain))
    np.testing.assert_array_equal(found.energy, expected.energy)


def test_blocks_of_another_request_are_not_taken(tiny_run, command, tmp_path):
    stale = tmp_path / ".a.h5.blocks-0123"
    stale.mkdir()
    (stale / "000000.h5").write_bytes(b"other")
    command("translate", "--run", tiny_run, *PLAIN, "--mode", "calibrate", "-o", tmp_path / "a.h5")
    assert not stale.exists()


@pytest.mark.parametrize("n", [2, 3])
def test_merged_shards_are_the_bytes_of_the_whole(plain, tiny_run, command, tmp_path, n):
    target = tmp_path / "plain.h5"
    for i in range(n, 0, -1):
        out = command("translate", "--run", tiny_run, *PLAIN, "--shard", f"{i}/{n}", "-o", target)
        assert "pileupgen merge" in out
    shards = sorted(tmp_path.glob("*.shard-*"), reverse=True)
    assert len(shards) == n
    command("merge", *shards, "-o", target)
    assert target.read_bytes() == plain.read_bytes()


def test_the_shards_of_a_run_are_found(tiny_run, command):
    for part in ("1/2", "2/2"):
        command("translate", "--run", tiny_run, "--mode", "calibrate", "--shard", part)
    out = command("merge", "--run", tiny_run)
    assert "125 events" in out
    assert len(ImageStore(tiny_run / "translated" / "mc_to_data.h5")) == 125
    for path in (tiny_run / "translated").iterdir():
        path.unlink()
    assert "No shards" in command("merge", "--run", tiny_run, error=MissingInputError)


def test_missing_doubled_and_foreign_shards_are_named(plain, tiny_run, command, tmp_path):
    target = tmp_path / "c.h5"
    args = ("translate", "--run", tiny_run, "--mode", "calibrate", "-o", target)
    for part in ("1/3", "3/3"):
        command(*args, "--shard", part)
    one, three = (tmp_path / f"c.shard-{i}-of-3.h5" for i in (1, 3))
    said = command("merge", one, three, "-o", target, error=StoreError)
    assert "Missing: shard 2/3" in said
    command(*args, "--shard", "2/3")
    two = tmp_path / "c.shard-2-of-3.h5"
    twin = tmp_path / "twin.h5"
    shutil.copy(two, twin)
    said = command("merge", one, two, three, twin, "-o", target, error=StoreError)
    assert "twin.h5" in said
    assert "more than once" in said
    said = command("merge", one, plain, "-o", target, error=StoreError)
    assert "is no shard" in said
    command(*args, "--shard", "2/3", "--seed", "7")
    said = command("merge", one, two, three, "-o", target, error=StoreError)
    assert "seed" in said
    command(*args, "--shard", "1/2")
    said = command("merge", one, tmp_path / "c.shard-1-of-2.h5", "-o", target, error=StoreError)
    assert "different divisions" in said
    assert not target.exists()


def test_parts_of_machines_with_and_without_bfloat16_are_told(
    tiny_run, command, tmp_path, monkeypatch
):
    """By shards and by blocks: both are joined, and the store has both precisions."""
    target = tmp_path / "mixed.h5"
    args = ("translate", "--run", tiny_run, "--mode", "calibrate", "-o", target)
    assert "networks in float32" in command(*args, "--shard", "1/2")
    monkeypatch.setattr(production, "precision_of", lambda *_: "bfloat16")
    assert "networks in bfloat16" in command(*args, "--shard", "2/2")
    shards = sorted(tmp_path.glob("mixed.shard-*"))
    said = " ".join(command("merge", "--run", tiny_run, *shards, "-o", target).split())
    assert "were computed in bfloat16 and float32" in said
    assert ImageStore(target).provenance["precision"] == "bfloat16 and float32"
    found = iter(("float32", "bfloat16"))
    monkeypatch.setattr(production, "precision_of", lambda *_: next(found))
    monkeypatch.setattr(production, "BLOCK_EVENTS", 100)
    assert "were computed in bfloat16 and float32" in " ".join(command(*args).split())


@pytest.mark.parametrize("name", ["mc", "data", "./data/../data/mc"])
def test_what_is_read_is_not_overwritten(tiny_run, command, plain, name):
    """Nor what later commands read."""
    path = tiny_run / ("data" if "/" not in name else "") / f"{name}.h5"
    before = path.stat().st_mtime_ns
    options = ("translate", "--run", tiny_run, "--mode", "calibrate", "--output", path)
    assert "would be lost" in command(*options, error=OutputError)
    assert "would be lost" in command("merge", plain, "--output", plain, error=OutputError)
    export = ("export", "--run", tiny_run, "--store", plain, "--output", path)
    assert "would be lost" in command(*export, error=OutputError)
    assert path.stat().st_mtime_ns == before


def test_draws_differ_and_the_first_is_the_plain_translation(plain, tiny_run, command, tmp_path):
    target = tmp_path / "draws.h5"
    command("translate", "--run", tiny_run, *PLAIN, "--draws", "3", "-o", target)
    whole, draws = ImageStore(plain), ImageStore(target)
    assert np.array_equal(draws.columns["draw"], np.tile([0, 1, 2], 125))
    assert np.array_equal(draws.columns["source_event"][::3], whole.columns["source_event"])
    energy = draws.read().energy
    assert np.array_equal(energy[::3], whole.read().energy)
    assert not np.array_equal(energy[1::3], energy[::3])
    assert not np.array_equal(energy[1::3], energy[2::3])


def test_members_of_an_ensemble_stand_side_by_side(plain, tiny_run, command, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_run, other)
    target = tmp_path / "both.h5"
    args = ("translate", "--run", tiny_run, *PLAIN, "--ensemble", other, "--draws", "2")
    command(*args, "-o", target)
    store, whole = ImageStore(target), ImageStore(plain)
    assert np.array_equal(store.columns["member"], np.tile([0, 0, 1, 1], 125))
    assert np.array_equal(store.columns["draw"], np.tile([0, 1, 0, 1], 125))
    energy = store.read().energy
    assert np.array_equal(energy[::4], whole.read().energy)
    assert np.array_equal(energy[2::4], energy[::4])  # the same model, copied
    assert len(store.provenance["ensemble"]) == 2
    said = command("translate", "--run", tiny_run, "--ensemble", "nowhere", error=RunError)
    assert "nowhere" in said


@pytest.mark.parametrize(
    "options",
    [
        ("--mode", "invert+sde", "--t-release", "600", "--w", "0"),
        ("--guidance", "ratio", "--w", "1", "--guidance-schedule", "cosine"),
        ("--guidance", "classifier", "--w", "1", "--guidance-interval", "50,250"),
        ("--sampler", "ddim", "--eta", "0.5"),
        ("--no-calibrate-after", "--weight-limit", "0.01"),
        ("--t-release", "auto", "--release-by", "spread", "--tolerance", "1000"),
        ("--release", "per-event", "--tolerance", "0.5"),
    ],
    ids=" ".join,
)
def test_ways_to_translate(tiny_run, command, tmp_path, options, plain):
    target = tmp_path / "a.h5"
    out = command("translate", "--run", tiny_run, *options, "-o", target, "--device", "cpu")
    store = ImageStore(target)
    images = store.read().energy
    assert np.isfinite(images).all()
    assert not np.array_equal(images, ImageStore(plain).read().energy)
    if "auto" in options:
        assert "t_release = 0 [0, 0]: held-out std(ln r)" in out
        assert (tmp_path / "a_release.png").is_file()
        assert (tmp_path / "a_release.pdf").is_file()
    if "--weight-limit" in options:
        assert store.provenance["weights"]["clipped"] > 0.5
        assert store.provenance["calibrate_after"] is False


def test_an_event_released_on_its_own_is_as_if_all_were_released_there(tiny_run, command, tmp_path):
    args = ("translate", "--run", tiny_run, "--w", "0", "--no-calibrate-after", "--device", "cpu")
    own = ("--release", "per-event", "--t-release", "400", "--tolerance", "0.3")
    for size in ("30", "125"):
        command(*args, *own, "--batch-size", size, "-o", tmp_path / f"own{size}.h5")
    assert (tmp_path / "own30.h5").read_bytes() == (tmp_path / "own125.h5").read_bytes()
    store = ImageStore(tmp_path / "own30.h5")
    released, log_ratio = store.columns["t_release"], store.columns["log_ratio"]
    assert len(np.unique(released)) > 2
    assert np.all(np.abs(log_ratio[released < 400]) <= 0.3)
    t = int(np.unique(released)[1])
    command(*args, "--t-release", str(t), "-o", tmp_path / "common.h5")
    rows = released == t
    common = ImageStore(tmp_path / "common.h5")
    assert np.array_equal(store.read().energy[rows], common.read().energy[rows])
    assert np.array_equal(log_ratio[rows], common.columns["log_ratio"][rows])


def test_timesteps_are_taken_as_they_are(plain, tiny_run, command, tmp_path):
    target = tmp_path / "explicit.h5"
    command("translate", "--run", tiny_run, "--timesteps", "300,200,99", "--w", "1", "-o", target)
    store = ImageStore(target)
    assert store.provenance["timesteps"] == [300, 200, 99]
    assert set(store.columns["t_release"]) == {300}
    assert store.read().energy.tobytes() == ImageStore(plain).read().energy.tobytes()
    target = tmp_path / "generated.h5"
    way = ("--timesteps", "999,90", "--mode", "generate")
    command("translate", "--run", tiny_run, *way, "-o", target)
    assert ImageStore(target).provenance["timesteps"] == [999, 90]


@pytest.mark.parametrize("mode", ["partial", "invert", "generate", "calibrate"])
@pytest.mark.parametrize("ways", [("data", "data"), ("mc", "mc"), ("data", "mc")])
def test_any_domain_becomes_any_domain(tiny_run, command, tmp_path, ways, mode):
    source, target = ways
    path = tmp_path / "out.h5"
    options = ("--mode", mode, "--source", source, "--target", target)
    out = command("translate", "--run", tiny_run, *PLAIN, *options, "-o", path)
    store = ImageStore(path)
    assert store.domain == f"{source}_to_{target}"
    assert store.provenance["direction"] == {"source": source, "target": target}
    assert "validate" in out if source == target else "export" in out
    own = ImageStore(tiny_run / "data" / f"{source}.h5")
    assert np.array_equal(
        store.columns["source_event"], own.columns["event_id"][own.indices("test")]
    )
    if mode == "calibrate":
        scale = store.read().energy.mean() / own.read(own.indices("test")).energy.mean()
        assert abs(scale - 1) < 0.02 if source == target else scale < 0.9
    if source == target:
        assert not store.columns["log_ratio"].any()


def test_controls_are_kept_apart_and_resume_as_any(tiny_run, command, plain):
    options = ("--source", "data", "--target", "data", "--mode", "calibrate")
    out = command("translate", "--run", tiny_run, *options)
    path = tiny_run / "translated" / "data_to_data.h5"
    assert f"--control {path}" in out.replace("\n", "")
    assert "current" in command("translate", "--run", tiny_run, *options)
    data = tiny_run / "data" / "data.h5"
    out = command("translate", "--run", tiny_run, "--input", data, "-o", path.with_name("odd.h5"))
    assert "taken for mc" in out
    for made in (path, path.with_name("odd.h5")):
        made.unlink()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shard", "0/4"), "outside 1/4"),
        (("--shard", "half"), "i/n"),
        (("--shard", "1/1000"), "cannot be divided"),
        (("--guidance-interval", "50"), "takes LO,HI"),
        (("--guidance-interval", "500,50"), "not within 0,999"),
        (("--mode", "invert+sde", "--sampler", "ddim"), "no noise"),
        (("--mode", "invert", "--release", "per-event"), "goes with mode partial"),
        (
            ("--t-release", "auto", "--release-by", "auc", "--tolerance", "0.0001"),
            "never falls to 0.0001",
        ),
        (("--weight-limit", "-1"), "log_weight_limit"),
        (("--timesteps", "300,half"), "takes T,T"),
        (("--timesteps", "300,100", "--steps", "3"), "exclude each other"),
        (("--timesteps", "300,100", "--t-release", "400"), "begin at 300, the decoding at 400"),
        (("--timesteps", "100,300"), "not descending"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_requests_are_named(tiny_run, command, options, words):
    assert words in command("translate", "--run", tiny_run, *options, error=ConfigError)


def test_the_operating_point_is_the_default_until_something_overrides_it(
    tiny_run, command, tmp_path
):
    from pileupgen.diffusion.settings import Settings
    from pileupgen.run import RunDirectory
    from pileupgen.workflow.model import model_identity

    settings = Settings("invert", 200, 0.0, 4).to_dict()
    model = model_identity(RunDirectory(tiny_run))
    point = tiny_run / "operating_point.json"
    point.write_text(json.dumps({"settings": settings, "model": model}))
    out = command("translate", "--run", tiny_run, "-o", tmp_path / "a.h5")
    assert "invert, t = 200, w = 0, 4 steps" in out
    assert ImageStore(tmp_path / "a.h5").provenance["mode"] == "invert"
    out = command("translate", "--run", tiny_run, *PLAIN, "-o", tmp_path / "b.h5")
    assert "not used: options given" in out
    assert ImageStore(tmp_path / "b.h5").provenance["mode"] == "partial"
    point.write_text(json.dumps({"settings": settings, "model": "another"}))
    command("translate", "--run", tiny_run, "-o", tmp_path / "c.h5")
    assert ImageStore(tmp_path / "c.h5").provenance["mode"] == "partial"
    point.write_text("{")
    said = command("translate", "--run", tiny_run, error=RunError)
    assert "operating_point.json" in said
    point.unlink()


def test_shards_are_contiguous_and_complete():
    rows = np.arange(10, 33)
    parts = [Shard(i, 4).rows(rows) for i in (1, 2, 3, 4)]
    assert np.array_equal(np.concatenate(parts), rows)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
