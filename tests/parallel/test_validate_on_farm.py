from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pileupgen.calo.geometry import Grid
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.validation import validate_stores
from pileupgen.measure.sample import TASK_EVENTS, measure_sample, measure_store
from pileupgen.parallel import Executor, Processes, Serial
from pileupgen.samples.store import ImageStore, assign_splits, create_store
from tests.parallel.conftest import FarmProcesses

GRID = Grid(tuple(np.round(np.linspace(-1.0, 1.0, 11), 3)), 12, name="toy")
N = 560
SETTINGS = ComparisonSettings(n_bootstrap=10, n_seeds=1, n_mu_bins=1)
QUICK = replace(SETTINGS, n_seeds=0)


def write_store(path: Path, domain: str, scale: float) -> ImageStore:
    rng = np.random.default_rng(len(domain))
    energy = (scale * rng.lognormal(0.0, 0.8, (N, *GRID.shape))).astype(np.float32)
    energy[energy < 0.7] = 0
    columns = {
        "mu": rng.poisson(60, N).astype(np.float32),
        "event_id": np.arange(N),
        "weight": rng.uniform(0.5, 1.5, N),
        "split": assign_splits(0, N, (0.3, 0.1, 0.6), 1),
    }
    if domain == "mc_to_data":
        columns |= {"source_event": np.arange(N), "seed": np.ones(N)}
    with create_store(path, GRID, domain, {}) as writer:
        writer.append(energy, columns)
    return ImageStore(path)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[ImageStore]:
    folder = tmp_path_factory.mktemp("validate-on-farm")
    samples = {"data": 1.2, "mc": 1.0, "mc_to_data": 1.18}
    return [write_store(folder / f"{name}.h5", name, scale) for name, scale in samples.items()]


def numbers(stores: list[ImageStore], settings: ComparisonSettings, executor: Executor) -> str:
    result = validate_stores(*stores, settings, executor=executor)
    means = [part.cells.energy.sum() for part in result.samples.reference]
    blocks = float(result.samples.translated.blocks.sum())
    return json.dumps([result.comparison.to_json(), means, blocks])


class Recording(Serial):
    """Keeps the names of the functions that it maps."""

    def __init__(self) -> None:
        self.given: set[str] = set()

    def map(
        self,
        function: Callable[[Any, Any], Any],
        shared: object,
        tasks: Iterable[Any],
        *,
        ordered: bool = True,
    ) -> Iterator[Any]:
        self.given.add(f"{function.__module__}.{function.__name__}")
        return super().map(function, shared, tasks, ordered=ordered)


def test_measuring_and_comparing_are_given_to_the_executor(stores: list[ImageStore]) -> None:
    executor = Recording()
    validate_stores(*stores, SETTINGS, executor=executor)
    measure, compare = "pileupgen.measure", "pileupgen.compare"
    assert executor.given == {
        f"{measure}.sample._measure_rows",
        f"{compare}.distance_table._measure",
        f"{compare}.rows._test",
    }


def test_processes_do_not_show(stores: list[ImageStore]) -> None:
    assert numbers(stores, QUICK, Processes(2)) == numbers(stores, QUICK, Serial())


def test_a_farm_does_not_show_nor_a_worker_that_dies(
    stores: list[ImageStore], farm: FarmProcesses
) -> None:
    pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    from pileupgen.parallel.dask_connection import connect

    # Workers, too, draw as few batches and trees as the tests do.
    few = {"DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps(["tests.few_draws"])}
    first, _ = farm.add_worker(**few), farm.add_worker(**few)
    with connect(farm.address) as executor:
        target = stores[0]
        n_done = 0

        def kill_first(n: int) -> None:
            nonlocal n_done
            n_done += n
            first.kill()

        rows = target.indices()
        there = measure_store("a", "a", target, rows, executor=executor, advance=kill_first)
        assert n_done == N > TASK_EVENTS
        here = measure_sample("a", "a", target.batches(), target.grid)
        assert np.array_equal(there.cells.energy_error, here.cells.energy_error)
        assert np.array_equal(there.matrix(), here.matrix())
        assert np.array_equal(there.correlation.phi, here.correlation.phi)
        assert first.wait(10) != 0
        assert numbers(stores, SETTINGS, executor) == numbers(stores, SETTINGS, Serial())
