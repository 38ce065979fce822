"""Preprocess doctored cards and files, and compare ⟨ΣE_T⟩ with an independent reading.

python -m benchmarks.fuzz_inputs [--cases 1000] [--seed 1] [--workers 1] [--out FOLDER]

Each case writes a small sample in one of seven formats, spoils its values, card, config or bytes in
one known way, and runs `pileupgen preprocess` in this process. What the sample truly holds is read
from its unspoiled twin (from the spoiled file where spoiling changes the truth) by uproot, h5py,
pyarrow or numpy alone. A case passes if the command refuses the sample in words, if ⟨ΣE_T⟩ is right
to 1 %, or if a warning has one of the names that belong to the fault. A traceback fails.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import uproot
import yaml
from numpy.typing import NDArray

from pileupgen.samples.store import ImageStore

Columns = dict[str, NDArray[Any]]
Generator = np.random.Generator

ETA_EDGES = np.linspace(-2.5, 2.5, 11)
N_PHI = 12
N_EVENTS = 40
TOLERANCE = 0.01
FORMATS = ("root", "delphes", "hdf5", "hdf5_first", "rntuple", "parquet", "npz")
_ENDS = {"hdf5": "h5", "hdf5_first": "h5", "parquet": "parquet", "npz": "npz"}
"""How the names of files end, where it is not ``root``."""

_ETA = 0.5 * (ETA_EDGES[1:] + ETA_EDGES[:-1])
_PHI = -np.pi + (np.arange(N_PHI) + 0.5) * 2 * np.pi / N_PHI
_CELLS = np.stack(np.meshgrid(_ETA, _PHI, indexing="ij"), axis=-1).reshape(-1, 2)


@dataclass
class Case:
    """A sample, how it is written, and what its card and config say."""

    columns: Columns
    kind: str
    card: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=dict)
    spoil_bytes: Callable[[Path], None] | None = None
    is_truth_spoiled: bool = False


@dataclass(frozen=True)
class Fault:
    """A way to spoil a case, and the warnings that may name it; errors always do.

    Attributes
    ----------
    spoil : callable
        Changes a case.
    named : tuple of str
        Names of checks.
    kinds : tuple of str
        Formats that it makes sense in.
    """

    spoil: Callable[[Case, Generator], None]
    named: tuple[str, ...] = ()
    kinds: tuple[str, ...] = FORMATS


def make_columns(rng: Generator) -> Columns:
    """Events of cells: η, φ, energies of two layers (N, 120), and μ (N,)."""
    mu = rng.poisson(40, N_EVENTS).astype(np.float64)
    shape = (N_EVENTS, len(_CELLS))
    is_hit = rng.random(shape) < 0.4
    columns: Columns = {
        "eta": np.broadcast_to(_CELLS[:, 0], shape).copy(),
        "phi": np.broadcast_to(_CELLS[:, 1], shape).copy(),
        "mu": mu,
    }
    for layer, scale in (("em", 0.02), ("had", 0.04)):
        energy = rng.exponential(scale * mu[:, None], shape) + 0.2
        columns[layer] = np.where(is_hit, energy, 0.0).astype(np.float32)
    return columns


def _scale(names: tuple[str, ...], factor: float) -> Callable[[Case, Generator], None]:
    def spoil(case: Case, rng: Generator) -> None:  # noqa: ARG001
        for name in names:
            case.columns[name] = (case.columns[name] * factor).astype(case.columns[name].dtype)

    return spoil


def _change(name: str, change: Callable[[Any], Any]) -> Callable[[Case, Generator], None]:
    def spoil(case: Case, rng: Generator) -> None:  # noqa: ARG001
        case.columns[name] = np.asarray(change(case.columns[name]))

    return spoil


def _exchange(first: str, second: str) -> Callable[[Case, Generator], None]:
    def spoil(case: Case, rng: Generator) -> None:  # noqa: ARG001
        columns = case.columns
        columns[first], columns[second] = columns[second], columns[first]

    return spoil


def _put(name: str, values: tuple[float, ...]) -> Callable[[Case, Generator], None]:
    """Put one of some values into a few places."""

    def spoil(case: Case, rng: Generator) -> None:
        column = case.columns[name] = case.columns[name].astype(np.float64)
        n = int(rng.integers(5, 40)) if column.ndim == 2 else int(rng.integers(2, 10))
        hits = np.flatnonzero(case.columns["em"].ravel()) if column.ndim == 2 else None
        places = rng.choice(column.size if hits is None else hits, n, replace=False)
        column.reshape(-1)[places] = rng.choice(values)

    return spoil


def _put_one(name: str, values: tuple[float, ...]) -> Callable[[Case, Generator], None]:
    """Put one of some values into one place."""

    def spoil(case: Case, rng: Generator) -> None:
        column = case.columns[name] = case.columns[name].astype(np.float64)
        column.reshape(-1)[rng.integers(0, column.size)] = rng.choice(values)

    return spoil


def _twice(case: Case, rng: Generator) -> None:  # noqa: ARG001
    for name, column in case.columns.items():
        if column.ndim == 2:
            case.columns[name] = np.concatenate([column, column], axis=1)


def _settings(part: str, **values: Any) -> Callable[[Case, Generator], None]:
    def spoil(case: Case, rng: Generator) -> None:  # noqa: ARG001
        getattr(case, part).update(values)

    return spoil


def _unit(unit: str) -> Callable[[Case, Generator], None]:
    return _settings("card", units={"energy": unit})


def _bytes(change: Callable[[bytes, Generator], bytes]) -> Callable[[Case, Generator], None]:
    def spoil(case: Case, rng: Generator) -> None:
        def damage(path: Path) -> None:
            path.write_bytes(change(path.read_bytes(), rng))

        case.spoil_bytes = damage

    return spoil


def _overwritten(data: bytes, rng: Generator) -> bytes:
    begin = int(rng.integers(0, len(data)))
    noise = rng.integers(0, 256, int(rng.integers(1, 400)), dtype=np.uint8).tobytes()
    return data[:begin] + noise + data[begin + len(noise) :]


def _repeat(case: Case, rng: Generator) -> None:
    n = int(rng.integers(1, N_EVENTS))
    case.columns = {name: np.concatenate([c, c[:n]]) for name, c in case.columns.items()}
    case.is_truth_spoiled = True


def _empty(share: float) -> Callable[[Case, Generator], None]:
    def spoil(case: Case, rng: Generator) -> None:  # noqa: ARG001
        for name in ("em", "had"):
            case.columns[name] = case.columns[name].copy()
            case.columns[name][: int(share * N_EVENTS)] = 0
        case.is_truth_spoiled = True

    return spoil


def _weights(
    values: Callable[[Generator], NDArray[np.float64]], name: str = "weight"
) -> Callable[[Case, Generator], None]:
    def spoil(case: Case, rng: Generator) -> None:
        case.columns[name] = values(rng)
        case.is_truth_spoiled = True
        if name == "weight" and case.kind != "delphes":
            case.card["weight"] = name

    return spoil


def _without_layer(case: Case, rng: Generator) -> None:
    case.preprocess["geometry"] = _geometry(layers=[str(rng.choice(["em", "had"]))])


def _shuffle_mu(case: Case, rng: Generator) -> None:
    case.columns["mu"] = rng.permutation(case.columns["mu"])


def _indices(case: Case, rng: Generator) -> None:
    first = int(rng.integers(0, 2))
    case.columns["phi"] = np.tile(np.arange(len(_CELLS)) % N_PHI + first, (N_EVENTS, 1)).astype(
        float
    )


_NAN, _INF = float("nan"), float("inf")
_PLACED = ("root", "delphes", "rntuple", "parquet")
_IMAGES = ("hdf5", "hdf5_first", "npz")
_ENERGIES = ("em", "had")
_WEIGHTS = ("weight", "Event.Weight", "genWeight")
_SCALES = ("magnitude", "energy_scale", "far_apart")

FAULTS: dict[str, Fault] = {
    "nothing": Fault(lambda case, rng: None),
    "MeV taken for GeV": Fault(_scale(_ENERGIES, 1e3), _SCALES),
    "GeV taken for MeV": Fault(_unit("MeV"), _SCALES),
    "GeV taken for TeV": Fault(_unit("TeV"), _SCALES),
    "no unit": Fault(_settings("card", units={}), kinds=("root", *_IMAGES)),
    "phi in degrees": Fault(_change("phi", np.degrees), kinds=_PLACED),
    "phi in 0 to 360": Fault(_change("phi", lambda x: np.degrees(x) % 360), kinds=_PLACED),
    "phi as index": Fault(_indices, kinds=_PLACED),
    "phi in 0 to 2 pi": Fault(_change("phi", lambda x: x % (2 * np.pi)), kinds=_PLACED),
    "phi a turn on": Fault(_change("phi", lambda x: x + 2 * np.pi), kinds=_PLACED),
    "phi mirrored": Fault(_change("phi", np.negative), kinds=_PLACED),
    "phi in turns": Fault(_change("phi", lambda x: x / (2 * np.pi)), ("phi_silent",), _PLACED),
    "phi in pi": Fault(_change("phi", lambda x: x / np.pi), ("phi_silent",), _PLACED),
    "theta for eta": Fault(
        _change("eta", lambda x: 2 * np.arctan(np.exp(-x))), ("rings_silent",), _PLACED
    ),
    "theta in degrees": Fault(
        _change("eta", lambda x: np.degrees(2 * np.arctan(np.exp(-x)))), kinds=_PLACED
    ),
    "size of eta": Fault(_change("eta", np.abs), ("rings_silent",), _PLACED),
    "eta shrunk": Fault(_change("eta", lambda x: 0.3 * x), ("rings_silent",), _PLACED),
    "eta as index": Fault(
        _change("eta", lambda x: np.round(4 * x) + 30), ("outside", "empty_events"), _PLACED
    ),
    "eta and phi exchanged": Fault(
        _exchange("eta", "phi"), ("phi_silent", "rings_silent", "outside"), _PLACED
    ),
    "em and had exchanged": Fault(_exchange("em", "had"), ("far_apart",)),
    "phi as energy": Fault(_exchange("phi", "em"), ("negative_energy",), _PLACED),
    "eta as energy": Fault(_exchange("eta", "had"), ("negative_energy",), _PLACED),
    "sentinel in energy": Fault(_put("em", (-999, -99, -9999, -1, -32768, 999, 9999))),
    "one sentinel in energy": Fault(_put_one("had", (-999, -9999))),
    "one layer in MeV": Fault(_scale(("had",), 1e3), ("layers_apart", *_SCALES)),
    "one layer in TeV": Fault(_scale(("em",), 1e-3), ("layers_apart",)),
    "towers twice": Fault(_twice, ("towers_twice",), _PLACED),
    "zero taken for energy": Fault(_change("had", np.zeros_like), ("layer_silent",)),
    "NaN in energy": Fault(_put("had", (_NAN,))),
    "infinite energy": Fault(_put("em", (_INF, -_INF))),
    "huge energy": Fault(_put("em", (1e7, 1e30))),
    "NaN in eta": Fault(_put("eta", (_NAN,)), kinds=_PLACED),
    "infinite phi": Fault(_put("phi", (_INF,)), kinds=_PLACED),
    "sentinel in eta": Fault(_put("eta", (-999, 99)), kinds=_PLACED),
    "sentinel in phi": Fault(_put("phi", (-999, -99)), kinds=_PLACED),
    "sentinel in mu": Fault(_put("mu", (-999, -1))),
    "9999 in mu": Fault(_put("mu", (9999,))),
    "NaN in mu": Fault(_put("mu", (_NAN,)), ("mu_unknown",)),
    "mu of other events": Fault(_shuffle_mu, ("mu_unrelated",)),
    "layer that the grid lacks": Fault(_without_layer),
    "layer that the file lacks": Fault(
        _settings("options", layers={"em": "em", "had": "gone"}), kinds=_PLACED
    ),
    "one branch twice": Fault(
        _settings("options", layers={"em": "em", "had": "em"}), ("layers_alike",), ("root",)
    ),
    "transverse energy": Fault(
        _settings("card", et=True), ("transverse_energy",), ("root", "hdf5")
    ),
    "truncated": Fault(_bytes(lambda data, rng: data[: int(rng.integers(0, len(data)))])),
    "overwritten": Fault(_bytes(_overwritten), ("rings_silent",)),
    "no bytes": Fault(_bytes(lambda data, rng: b"")),
    "another kind of file": Fault(_bytes(lambda data, rng: b"PK\x03\x04" + data)),
    "repeated events": Fault(_repeat, ("duplicates",)),
    "all empty": Fault(_empty(1.0)),
    "half empty": Fault(_empty(0.5), ("empty_events",)),
    "positive weights": Fault(_weights(lambda rng: rng.exponential(1, N_EVENTS))),
    "negative weights": Fault(_weights(lambda rng: rng.choice([-1.0, 1.0, 1.0, 1.0], N_EVENTS))),
    "weights that the card does not name": Fault(
        _weights(lambda rng: rng.exponential(1, N_EVENTS), "genWeight"), ("weights_unread",)
    ),
    "weights without a sum": Fault(_weights(lambda rng: np.zeros(N_EVENTS))),
    "NaN in weights": Fault(
        _weights(lambda rng: np.where(rng.random(N_EVENTS) < 0.2, _NAN, 1.0) + 0 * rng.random())
    ),
    "unsorted edges of the grid": Fault(
        lambda case, rng: case.preprocess.update(
            geometry=_geometry(eta_edges=[float(e) for e in ETA_EDGES[::-1]])
        )
    ),
    "unsorted edges of the card": Fault(
        _settings("options", eta_range=None, eta_edges=[float(e) for e in ETA_EDGES[::-1]]),
        kinds=_IMAGES,
    ),
    "too wide a range in eta": Fault(
        _settings("options", eta_range=[-5.0, 5.0]), ("outside",), _IMAGES
    ),
    "too narrow a range in eta": Fault(
        _settings("options", eta_range=[-1.0, 1.0]), ("rings_silent",), _IMAGES
    ),
    "axes exchanged": Fault(_settings("options", axes="phi_eta"), ("regridded",), _IMAGES),
    "channels last for first": Fault(_settings("options", channels="last"), kinds=("hdf5_first",)),
    "mu that is not there": Fault(_settings("card", mu="npv")),
    "energies in double precision": Fault(_change("em", lambda x: x.astype(np.float64))),
    "energies as big-endian": Fault(_change("em", lambda x: x.astype(">f4")), kinds=_IMAGES),
    "threshold of 500 GeV": Fault(_settings("preprocess", zero_suppression=500.0)),
    "threshold of 2 GeV": Fault(
        _settings("preprocess", zero_suppression=2.0), ("suppressed", "losses_apart")
    ),
}


def _geometry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "coarse",
        "eta_edges": [float(edge) for edge in ETA_EDGES],
        "n_phi": N_PHI,
        **changes,
    }


# -- writing and the independent reading ---------------------------------------------------------


def write(case: Case, path: Path, columns: Columns) -> None:
    """Write a sample in the case's format."""
    if case.kind in _IMAGES:
        _write_images(case, path, columns)
        return
    prefix = "Tower." if case.kind == "delphes" else ""
    names = {"eta": "Eta", "phi": "Phi", "em": "Eem", "had": "Ehad"}
    branches: dict[str, Any] = {}
    for name, values in columns.items():
        if values.ndim == 2:
            label = names[name] if case.kind == "delphes" else name
            branches[prefix + label] = ak.from_regular(ak.Array(values.astype("=f8")))
        elif name == "mu" and case.kind == "delphes":
            branches["mu"] = values
        else:
            label = "Event.Weight" if (name, case.kind) == ("weight", "delphes") else name
            branches[label] = values
    if case.kind == "parquet":
        table = {
            name: ak.to_arrow(ak.Array(values), extensionarray=False)
            for name, values in branches.items()
        }
        parquet.write_table(pa.table(table), path)
        return
    with uproot.recreate(path) as file:
        if case.kind == "rntuple":
            file.mkrntuple("cells", branches)
            return
        tree = {"root": "cells", "delphes": "Delphes"}[case.kind]
        types = {
            name: "var * float64" if isinstance(values, ak.Array) else "float64"
            for name, values in branches.items()
        }
        file.mktree(tree, types).extend(branches)


def _write_images(case: Case, path: Path, columns: Columns) -> None:
    shape = (-1, len(_ETA), N_PHI)
    layers = [columns[name].reshape(shape) for name in _ENERGIES]
    images = np.stack(layers, axis=-1 if case.kind == "hdf5" else 1)
    arrays = {name: values for name, values in columns.items() if values.ndim == 1}
    if case.kind == "npz":
        np.savez(path, images=images, **arrays)
        return
    with h5py.File(path, "w") as file:
        for name, values in {"images": images, **arrays}.items():
            file[name] = values


def true_sum_et(case: Case, path: Path) -> float:
    """⟨ΣE_T⟩ in GeV of a file, by its format's library and the definition alone."""
    if case.kind in _IMAGES:
        opened = np.load(path) if case.kind == "npz" else h5py.File(path, "r")
        with opened as file:
            images, names = file["images"][:], [name for name in _WEIGHTS if name in file]
            weight = file[names[0]][:] if names else None
        energy = images.sum(axis=-1 if case.kind == "hdf5" else 1, dtype=np.float64)
        sums = (energy / np.cosh(_ETA)[:, None]).sum(axis=(1, 2))
    elif case.kind == "parquet":
        table = ak.from_parquet(path)
        sums = np.asarray(ak.sum((table.em + table.had) / np.cosh(table.eta), axis=1))
        names = [name for name in _WEIGHTS if name in table.fields]
        weight = table[names[0]].to_numpy() if names else None
    else:
        is_delphes = case.kind == "delphes"
        tree, prefix = ("Delphes", "Tower.") if is_delphes else ("cells", "")
        eta, *layers = ("Eta", "Eem", "Ehad") if is_delphes else ("eta", "em", "had")
        with uproot.open(path) as file:
            read = file[tree]
            energy = sum(read[prefix + layer].array() for layer in layers)
            sums = np.asarray(ak.sum(energy / np.cosh(read[prefix + eta].array()), axis=1))
            names = [name for name in _WEIGHTS if name in read.keys()]  # noqa: SIM118
            weight = read[names[0]].array(library="np") if names else None
    if weight is None or not np.isfinite(weight).all() or weight.sum() == 0:
        return float(sums.mean())
    return float(np.average(sums, weights=weight))


def write_card(case: Case, folder: Path, name: str) -> None:
    """Write a sample's card."""
    lists = {"eta": "eta", "phi": "phi", "layers": {"em": "em", "had": "had"}}
    first = {"eta_range": [-2.5, 2.5], "channels": "first"}
    options: dict[str, Any] = {
        "root": {"tree": "cells", **lists},
        "rntuple": {"tree": "cells", **lists},
        "parquet": lists,
        "delphes": {},
        "npz": {"energy": "images", "layers": ["em", "had"], **first},
        "hdf5": {"dataset": "images", "eta_range": [-2.5, 2.5]},
        "hdf5_first": {"dataset": "images", **first},
    }[case.kind]
    extra = {key: value for key, value in case.card.items() if key != "et"}
    end = _ENDS.get(case.kind, "root")
    options = {k: v for k, v in {**options, **case.options}.items() if v is not None}
    card = {
        "name": name,
        "what": "made by the fuzz run",
        "domain": name,
        "files": f"{name}.{end}",
        "format": {"hdf5_first": "hdf5", "rntuple": "root"}.get(case.kind, case.kind),
        "options": options,
        "mu": "mu",
        "units": {"energy": "GeV"},
        "detector": {"text": "none"},
        "how_made": "numpy",
        "selection": "none",
        "licence": "Apache-2.0",
        "contact": "nobody",
        **extra,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")


def _as_transverse(case: Case, path: Path) -> None:
    """Rewrite a file so that it has E_T, under a name that says so; the card follows."""
    factor = np.cosh(case.columns["eta"])
    columns = {
        name: values / factor if name in _ENERGIES else values
        for name, values in case.columns.items()
    }
    write(case, path, columns)
    if case.kind == "hdf5":
        with h5py.File(path, "r+") as file:
            file.move("images", "ET")
        case.options["dataset"] = "ET"
        return
    with uproot.open(path) as file:
        arrays = file["cells"].arrays(["eta", "phi", "em", "had", "mu"])
    with uproot.recreate(path) as file:
        names = {"em": "cell_em_et", "had": "cell_had_et"}
        branches = {names.get(name, name): arrays[name] for name in arrays.fields}
        types = {k: "float64" if k == "mu" else "var * float64" for k in branches}
        file.mktree("cells", types).extend(branches)
    case.options["layers"] = names


# -- running -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes
    ----------
    fault, kind : str
        What was spoiled, in which format.
    is_in_both : bool
        Whether data was spoiled like mc.
    exit_code : int
        Of the command; −1 after a traceback.
    ratio : float
        ⟨ΣE_T⟩ of the store over the independent one; NaN where nothing was stored.
    warnings : tuple of str
        Names of the checks that warned.
    verdict : str
        ``refused``, ``right``, ``warned``, ``wrong`` or ``traceback``.
    said : str
        The command's output.
    """

    fault: str
    kind: str
    is_in_both: bool
    exit_code: int
    ratio: float
    warnings: tuple[str, ...]
    verdict: str
    said: str

    @property
    def is_pass(self) -> bool:
        """Whether the case ended as it should."""
        return self.verdict not in ("wrong", "traceback")


def run_case(name: str, kind: str, seed: int, folder: Path) -> Outcome:
    """Make, spoil, preprocess and judge one case in an empty folder."""
    rng = np.random.default_rng([seed, sorted(FAULTS).index(name), FORMATS.index(kind)])
    fault, is_in_both = FAULTS[name], bool(rng.random() < 0.5)
    end = _ENDS.get(kind, "root")
    preprocess: dict[str, Any] = {"geometry": _geometry(), "zero_suppression": 0.0}
    truth = float("nan")
    for domain in ("mc", "data"):
        columns = make_columns(rng)
        case = Case(dict(columns), kind)
        if domain == "mc" or is_in_both:
            fault.spoil(case, rng)
        path = folder / f"{domain}.{end}"
        write(case, path, case.columns if case.is_truth_spoiled else columns)
        if domain == "mc":
            truth = true_sum_et(case, path)
        if case.card.get("et"):
            _as_transverse(case, path)
        else:
            write(case, path, case.columns)
        if case.spoil_bytes is not None:
            case.spoil_bytes(path)
        write_card(case, folder, domain)
        preprocess |= case.preprocess
    config = {
        "name": "fuzz",
        "samples": {"mc": "mc.yaml", "data": "data.yaml"},
        "preprocess": preprocess,
    }
    (folder / "fuzz.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    code, said = _run(
        "preprocess", "--config", str(folder / "fuzz.yaml"), "--run", str(folder / "run")
    )
    ratio, warned = float("nan"), tuple(re.findall(r"warning (\w+):", said))
    verdict = "refused"
    if code == -1 or "Traceback" in said:
        verdict = "traceback"
    elif code == 0:
        store = ImageStore(folder / "run" / "data" / "mc.h5")
        images = store.read()
        rings = images.energy.sum(axis=(1, 3), dtype=np.float64)
        sums = rings @ (1 / np.cosh(store.grid.eta_centres))
        ratio = float(np.average(sums, weights=images.columns["weight"])) / truth
        is_right = abs(ratio - 1) < TOLERANCE
        verdict = "right" if is_right else "warned" if set(warned) & set(fault.named) else "wrong"
    elif "error" not in said:
        verdict = "wrong"
    return Outcome(name, kind, is_in_both, code, ratio, warned, verdict, said)


def _run_aside(name: str, kind: str, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return run_case(name, kind, seed, Path(folder))


def _run(*arguments: str) -> tuple[int, str]:
    """Exit code and output of a command; −1 after an exception that nobody foresaw."""
    from pileupgen.cli.main import main

    said = io.StringIO()
    code: Any = 0
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        mock.patch.object(sys, "argv", ["pileupgen", *arguments]),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        except Exception:  # a traceback is what is looked for
            code = -1
            said.write(traceback.format_exc())
    return int(code) if isinstance(code, int) else 1, said.getvalue()


def cases(n: int, seed: int) -> list[tuple[str, str, int]]:
    """Name, format and seed of ``n`` cases: every fault in every format that it applies to, again
    and again with other numbers."""
    every = [(name, kind) for name, fault in FAULTS.items() for kind in fault.kinds]
    return [(*every[index % len(every)], seed + index // len(every)) for index in range(n)]


def main() -> None:
    """Run all cases, print a table, and write every outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    given = parser.parse_args()
    os.environ.setdefault("COLUMNS", "200")
    chosen = cases(given.cases, given.seed)
    with ProcessPoolExecutor(given.workers) as pool:
        outcomes = list(pool.map(_run_aside, *zip(*chosen, strict=True), chunksize=8))
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / "outcomes.jsonl").open("w", encoding="utf-8") as file:
        for outcome in outcomes:
            file.write(json.dumps(outcome.__dict__) + "\n")
    for name in FAULTS:
        counts = Counter(outcome.verdict for outcome in outcomes if outcome.fault == name)
        print(f"{name:32}", "  ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    total = Counter(outcome.verdict for outcome in outcomes)
    print(f"{len(outcomes)} cases: {dict(total)}")
    sys.exit(0 if all(outcome.is_pass for outcome in outcomes) else 1)


if __name__ == "__main__":
    main()
