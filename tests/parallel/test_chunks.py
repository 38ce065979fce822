from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pileupgen.errors import GeneratorError, OutputError, UnreadableInputError
from pileupgen.parallel.chunks import run_chunks, save
from pileupgen.simulate.pool import read_pool, write_pool
from pileupgen.simulate.spec import SampleSpec

pytest.importorskip("chromo")

SIBYLL = {
    "task": "pileupgen.simulate.pool:prepare_pool",
    "generator": "sibyll",
    "process": "inelastic",
    "tune": None,
    "sqrt_s": 13000.0,
    "pt_min": None,
}


def test_chunks_come_in_order_and_depend_on_their_seed_alone(tmp_path: Path) -> None:
    chunks = [{"n": 20, "seed": 3}, {"n": 5, "seed": 4}, {"n": 20, "seed": 3}]
    found = list(run_chunks(SIBYLL, chunks, 2, tmp_path))
    assert [len(part["offsets"]) - 1 for part in found] == [20, 5, 20]
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[2][name])
    assert not list(tmp_path.glob("*.npz"))


def test_error_of_the_server_arrives_as_itself(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="does not initialise at √s = 1 GeV"):
        list(run_chunks({**SIBYLL, "sqrt_s": 1.0}, [{"n": 1, "seed": 1}], 1, tmp_path))


def test_error_of_a_child_arrives(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="KeyError"):
        list(run_chunks(SIBYLL, [{"n": 1}], 1, tmp_path))


def test_missing_pool_is_told_by_the_overlay(tmp_path: Path) -> None:
    spec = SampleSpec(generator="sibyll")
    task = {
        "task": "pileupgen.simulate.overlay:prepare_overlay",
        "spec": spec.model_dump(mode="json"),
        "response": spec.load_response().model_dump(mode="json"),
        "pools": {"pileup": str(tmp_path / "none.npz")},
    }
    with pytest.raises(UnreadableInputError, match=r"none\.npz"):
        list(run_chunks(task, [{"first": 0, "n": 1}], 1, tmp_path))


CRASH = """
import os, sys
from pileupgen.parallel import chunk_server
crash = lambda job: lambda chunk: os.kill(os.getpid(), 11)
sys.exit(chunk_server.main())
"""


def test_crash_of_a_child_is_reported(tmp_path: Path) -> None:
    job = {"task": "__main__:crash", "chunks": [{}, {}], "workers": 2, "folder": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CRASH], input=json.dumps(job).encode(), capture_output=True
    )
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["error"] == "GeneratorError"
    assert "ended by signal 11" in report["message"]


def test_the_last_words_of_a_child_that_crashes_are_quoted(tmp_path: Path) -> None:
    task = {"task": "tests.parallel.work:crash_with_a_word"}
    with pytest.raises(GeneratorError, match=r"signal 9\. no table of cross sections"):
        list(run_chunks(task, [{}], 1, tmp_path))


def test_server_that_dies_is_reported(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="No module named 'nothing'"):
        list(run_chunks({"task": "nothing:at_all"}, [{}], 1, tmp_path))


def test_pool_keeps_its_bytes(tmp_path: Path, interactions: object) -> None:
    path = tmp_path / "pool.npz"
    write_pool(path, interactions)  # type: ignore[arg-type]
    for name, values in read_pool(path).arrays().items():
        np.testing.assert_array_equal(values, getattr(interactions, name))


def test_damaged_pool_is_refused(tmp_path: Path, interactions: object) -> None:
    path = tmp_path / "pool.npz"
    write_pool(path, interactions)  # type: ignore[arg-type]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnreadableInputError, match=r"pool\.npz"):
        read_pool(path)


def test_save_where_no_folder_can_be_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "no").write_text("")
    with pytest.raises(OutputError):
        save(tmp_path / "no" / "folder.npz", {"a": np.arange(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["no"]


UNLUCKY = """
import os, signal, sys, time
from pileupgen.parallel import chunk_server
fork = os.fork
def fork_and_be_ended():
    child = fork()
    if child:
        os.kill(os.getpid(), signal.SIGTERM)
    return child
os.fork = fork_and_be_ended
sys.path.insert(0, sys.argv[1])
job = {"task": "late:late", "chunks": [{}], "workers": 1, "folder": sys.argv[1]}
chunk_server.serve(job, sys.stdout)
"""


def test_a_child_that_was_just_born_is_ended_too(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(
        "import time\nimport numpy as np\n"
        "late = lambda job: lambda chunk: time.sleep(0.5) or {'x': np.zeros(1)}\n"
    )
    ended = subprocess.run([sys.executable, "-c", UNLUCKY, str(tmp_path)], timeout=60, check=False)
    assert ended.returncode == 1
    time.sleep(1)
    assert not (tmp_path / "0.npz").exists()
