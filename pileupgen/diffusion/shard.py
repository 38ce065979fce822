"""Shards of a translated store, joined to the bytes that one process would have written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pileupgen.arrays import Ints
from pileupgen.calo.geometry import require_same_grid
from pileupgen.diffusion.weights import WeightSummary
from pileupgen.errors import ConfigError, StoreError
from pileupgen.run import differing_keys
from pileupgen.samples.store import Images, ImageStore, StoreWriter, create_store

PRECISION = "precision"
"""Key of the provenance: precision of the networks' products, see :func:`joined_precision`."""
_APPEND_EVENTS = 256
"""Events appended at a time, always, so that the bytes do not depend on who appends."""


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 1) of ``of``."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``i/n``.

        Raises
        ------
        ConfigError
            If it is not of this form, or i is outside 1 … n.

        Examples
        --------
        >>> Shard.parse("2/8")
        Shard(index=2, of=8)
        """
        first, slash, second = text.partition("/")
        if not (slash and first.strip().isdecimal() and second.strip().isdecimal()):
            raise ConfigError(f"--shard takes i/n, not '{text}'.", "Try --shard 1/4.")
        shard = cls(int(first), int(second))
        if not 1 <= shard.index <= shard.of:
            raise ConfigError(f"Shard {text} is outside 1/{shard.of} … {shard.of}/{shard.of}.")
        return shard

    def rows(self, rows: Ints) -> Ints:
        """Rows of the shard: contiguous, all shards together all rows.

        Raises
        ------
        ConfigError
            If there are fewer rows than shards.
        """
        if len(rows) < self.of:
            raise ConfigError(f"{len(rows)} events cannot be divided into {self.of} shards.")
        begin, end = ((self.index + k) * len(rows) // self.of for k in (-1, 0))
        return rows[begin:end]

    def path(self, whole: Path) -> Path:
        """Path of this shard of a store."""
        return whole.with_name(f"{whole.stem}.shard-{self.index}-of-{self.of}{whole.suffix}")


def merge_shards(paths: Sequence[Path], target: Path) -> int:
    """Write the shards of one job as one store.

    Parameters
    ----------
    paths : sequence of Path
        All shards, in any order.

    Returns
    -------
    int
        Events written.

    Raises
    ------
    StoreError
        If a store is no shard, shards are missing or there twice, or they are of different jobs.
    OutputError
        If the target cannot be written.
    """
    shards = sorted(((_shard_of(store), store) for store in map(ImageStore, paths)), key=_index)
    _require_complete([shard for shard, _ in shards], [store.path for _, store in shards])
    stores = [store for _, store in shards]
    provenance = _common(stores[0])
    for store in stores[1:]:
        require_same_grid(store.grid, stores[0].grid, str(store.path), str(stores[0].path))
        if differing := differing_keys(provenance, _common(store)):
            raise StoreError(
                f"{store.path} and {stores[0].path} are not of one job: {differing[0]}.",
                "Translate them with the same model, options and seed.",
            )
    log_ratio = np.concatenate([store.columns["log_ratio"] for store in stores])
    limit = float(stores[0].provenance["weights"]["limit"])
    full = {
        **provenance,
        PRECISION: joined_precision(stores),
        "weights": WeightSummary.of(log_ratio, limit).to_dict(),
    }
    with create_store(target, stores[0].grid, stores[0].domain, full) as writer:
        append_evenly(writer, stores)
        return writer.n_events


def _index(item: tuple[Shard, ImageStore]) -> int:
    return item[0].index


def _shard_of(store: ImageStore) -> Shard:
    found = store.provenance.get("shard")
    if not isinstance(found, dict) or not {"index", "of"} <= found.keys():
        raise StoreError(
            f"{store.path} is no shard.",
            "Give what 'pileupgen translate --shard i/n' wrote.",
        )
    return Shard(int(found["index"]), int(found["of"]))


def _require_complete(shards: list[Shard], paths: list[Path]) -> None:
    totals = {shard.of for shard in shards}
    if len(totals) != 1:
        named = ", ".join(path.name for path in paths)
        raise StoreError(f"These are shards of different divisions: {named}.")
    (of,) = totals
    count = Counter(shard.index for shard in shards)
    missing = [f"{i}/{of}" for i in range(1, of + 1) if i not in count]
    twice = [path.name for shard, path in zip(shards, paths, strict=True) if count[shard.index] > 1]
    if missing:
        raise StoreError(
            f"Missing: shard {', '.join(missing)}.",
            f"Run 'pileupgen translate --shard {missing[0]}' with the options of the others.",
        )
    if twice:
        raise StoreError(f"The same shard is given more than once: {', '.join(twice)}.")


def _common(store: ImageStore) -> dict[str, Any]:
    differs = "shard", "weights", PRECISION
    return {k: v for k, v in store.provenance.items() if k not in differs}


def joined_precision(stores: Sequence[ImageStore]) -> str:
    """Precisions that the events of some stores were computed in, as ``bfloat16 and float32``."""
    found = {part for store in stores for part in precisions(store.provenance)}
    return " and ".join(sorted(found))


def precisions(provenance: Mapping[str, Any]) -> list[str]:
    """Precisions that a translated store names; of a store without any, ``unknown``."""
    return str(provenance.get(PRECISION, "unknown")).split(" and ")


def append_evenly(writer: StoreWriter, stores: Sequence[ImageStore]) -> None:
    """Append stores in steps of a fixed size across their borders."""
    parts: list[Images] = []
    for store in stores:
        begin = 0
        while begin < len(store):
            n_missing = _APPEND_EVENTS - sum(map(len, parts))
            parts.append(store.read(slice(begin, begin + n_missing)))
            begin += n_missing
            if sum(map(len, parts)) == _APPEND_EVENTS:
                _append(writer, parts)
                parts = []
    if parts:
        _append(writer, parts)


def _append(writer: StoreWriter, parts: list[Images]) -> None:
    columns = {
        name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns
    }
    writer.append(np.concatenate([part.energy for part in parts]), columns)
