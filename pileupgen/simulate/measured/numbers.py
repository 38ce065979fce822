"""The numbers of a measured table, from CSV or from YODA text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pileupgen.arrays import Floats
from pileupgen.errors import UnreadableInputError, did_you_mean

SOURCE = "sys_"
"""Begins the name of a CSV column with errors that all bins share."""

BY_THEMSELVES = re.compile(r"stat|uncor", re.IGNORECASE)
"""Begins the label of a YODA error whose bins are independent; YODA has it so."""

_BEGIN = re.compile(r"BEGIN YODA_(?:BINNED)?(\w+?)(?:_V\d+)?\s+(\S+)")


@dataclass(frozen=True)
class Rows:
    """The numbers of a table; arrays as in ``MeasuredTable``, ``window`` None if not given."""

    low: Floats
    high: Floats
    value: Floats
    down: Floats
    up: Floats
    correlated: Floats
    window: Floats | None = None


def read_csv(lines: Sequence[str], n_head: int, path: Path, *, with_windows: bool) -> Rows:
    """Read the CSV below a head of so many lines.

    Raises
    ------
    UnreadableInputError
        If a column is missing or unknown, or an entry is no finite number.
    """
    found = csv.DictReader(lines[n_head:], skipinitialspace=True)
    names = [name.strip() for name in found.fieldnames or []]
    found.fieldnames = names
    sources = [name for name in names if name.startswith(SOURCE)]
    errors = ("error", "error") if "error" in names else ("error_down", "error_up")
    windows = ("abs_eta_low", "abs_eta_high") if with_windows else ()
    needed = dict.fromkeys(("low", "high", "value", *errors, *windows))
    missing = [name for name in needed if name not in names]
    unknown = [name for name in names if name not in needed and name not in sources]
    if missing or unknown:
        raise UnreadableInputError(
            f"{path}, line {n_head + 1}: "
            + "; ".join(
                [f"no column '{name}'" for name in missing]
                + [f"unknown column '{name}'. {did_you_mean(name, needed)}" for name in unknown]
            )
            + ".",
            f"Columns: {', '.join(needed)}, and {SOURCE}<source> for errors that bins share.",
        )
    columns: dict[str, list[float]] = {name: [] for name in names}
    for row in found:
        where = f"{path}, line {n_head + found.line_num}"
        if None in row:
            raise UnreadableInputError(f"{where} has more entries than there are columns.")
        for name in names:
            columns[name].append(_number(row[name] or "", f"{where}, '{name}'"))
    if not columns["value"]:
        raise UnreadableInputError(f"{path} holds no numbers below its head.")
    arrays = {name: np.array(column) for name, column in columns.items()}
    return Rows(
        low=arrays["low"],
        high=arrays["high"],
        value=arrays["value"],
        down=arrays[errors[0]],
        up=arrays[errors[1]],
        correlated=np.array([arrays[name] for name in sources]).reshape(-1, len(arrays["low"])),
        window=np.stack([arrays[name] for name in windows], axis=1) if windows else None,
    )


def read_yoda(lines: Sequence[str], path: Path, wanted: str | None) -> Rows:
    """Read one object of YODA text.

    Parameters
    ----------
    wanted : str, optional
        Path of the object; not needed where the file holds one only.

    Raises
    ------
    UnreadableInputError
        If there is no such object, it is of another kind, or its numbers are malformed.
    """
    objects = {name: (kind, body) for kind, name, body in _objects(lines)}
    if wanted is None and len(objects) == 1:
        wanted = next(iter(objects))
    if wanted not in objects:
        problem = "holds several objects" if wanted is None else f"has no object '{wanted}'"
        raise UnreadableInputError(
            f"{path} {problem}.",
            f"Name one as 'yoda_path' in the head. {did_you_mean(wanted or '', objects)}",
        )
    kind, body = objects[wanted]
    readers = {"SCATTER2D": _scatter, "ESTIMATE1D": _estimate}
    if kind not in readers:
        raise UnreadableInputError(
            f"{path}: '{wanted}' is of YODA's kind {kind}.",
            f"Measured tables are read from {' and '.join(readers)}.",
        )
    try:
        rows = readers[kind](body)
    except (ValueError, KeyError, IndexError, TypeError, yaml.YAMLError) as error:
        raise UnreadableInputError(
            f"{path}: '{wanted}' cannot be read as {kind}: {error}.", "Compare it with YODA's own."
        ) from error
    if not all(np.isfinite(array).all() for array in (rows.low, rows.value, rows.down, rows.up)):
        raise UnreadableInputError(f"{path}: '{wanted}' holds numbers that are not finite.")
    return rows


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise UnreadableInputError(f"{where}: '{text}' is not a finite number.")
    return number


def _objects(lines: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Kind, path and lines of every object."""
    kind, name = "", ""
    body: list[str] = []
    for line in lines:
        if begin := _BEGIN.match(line):
            kind, name, body = begin[1], begin[2], []
        elif line.startswith("END YODA"):
            yield kind, name, body
        else:
            body.append(line)


def _split(body: Sequence[str]) -> tuple[Mapping[str, Any], list[list[str]]]:
    """Annotations, and the words of the lines that begin with a number."""
    above, rows = [], []
    for line in _joined(body):
        words = line.split()
        if words and _is_number(words[0]):
            rows.append(words)
        elif not line.startswith(("#", "---")):
            above.append(line)
    return yaml.safe_load("\n".join(above)) or {}, rows


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _scatter(body: Sequence[str]) -> Rows:
    """``SCATTER2D``: x, its errors down and up, y, its errors down and up."""
    _, words = _split(body)
    rows = _matrix(words, 6)
    x, x_down, x_up, value, down, up = rows.T
    return Rows(x - x_down, x + x_up, value, down, up, np.zeros((0, len(x))))


def _estimate(body: Sequence[str]) -> Rows:
    """``ESTIMATE1D``: value, then errors down and up by label, one line a bin.

    The first and the last line are the bins below and above the edges, written with ``---``.
    """
    annotations, words = _split(body)
    edges = np.array(annotations["Edges(A1)"], dtype=float)
    labels = [str(label) for label in annotations.get("ErrorLabels") or [""]]
    rows = _matrix(words[1:-1], 1 + 2 * len(labels))
    if len(rows) != len(edges) - 1:
        raise ValueError(f"{len(rows)} lines of numbers do not fit {len(edges) - 1} bins")
    down, up = np.minimum(rows[:, 1::2], 0).T, rows[:, 2::2].T
    own = [i for i, label in enumerate(labels) if not label or BY_THEMSELVES.match(label)]
    shared = [i for i in range(len(labels)) if i not in own]
    return Rows(
        low=edges[:-1],
        high=edges[1:],
        value=rows[:, 0],
        down=np.sqrt(np.sum(down[own] ** 2, axis=0)),
        up=np.sqrt(np.sum(up[own] ** 2, axis=0)),
        correlated=0.5 * (up[shared] - down[shared]),
    )


def _matrix(words: Sequence[Sequence[str]], n_columns: int) -> Floats:
    """Numbers of lines that have so many each; an error that is not there is zero."""
    if not words or any(len(line) != n_columns for line in words):
        raise ValueError(f"every line of numbers must hold {n_columns}")
    return np.array([[0.0 if word == "---" else float(word) for word in line] for line in words])


def _joined(body: Sequence[str]) -> list[str]:
    """Lines, with lists that go over several lines on one."""
    joined: list[str] = []
    for line in body:
        if joined and joined[-1].count("[") > joined[-1].count("]"):
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
    return joined
