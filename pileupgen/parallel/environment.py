"""Properties that a worker has to share with the process that uses it."""

from __future__ import annotations

import functools
import hashlib
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pileupgen
from pileupgen.errors import FarmError
from pileupgen.run import versions

PACKAGES = ("numpy", "scipy", "h5py", "hdf5plugin", "uproot", "awkward", "scikit-learn", "torch")
"""Packages that results can depend on."""


@functools.cache
def environment(*packages: str) -> dict[str, str]:
    """Versions of Python and of what results depend on, and a hash of pileupgen's own code.

    Parameters
    ----------
    *packages : str
        Further packages, such as those that files on a server take.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    found = versions(*PACKAGES, *packages)
    missing = dict.fromkeys(packages, "missing")
    return {"python": python, **missing, **found, "pileupgen code": _hash_code()}


def processor() -> str:
    """The vector instructions that NumPy finds, on which the last bits of results can depend."""
    import numpy as np

    shown: Any = np.show_config(mode="dicts")
    return " ".join(shown.get("SIMD Extensions", {}).get("found", []))


def require_same_environment(expected: Mapping[str, str], who: str = "") -> None:
    """Refuse to work where the software is another.

    Parameters
    ----------
    expected : mapping
        :func:`environment` of the process that asks.

    Raises
    ------
    FarmError
        Naming what differs.
    """
    # What was asked for besides the usual is known by its name alone.
    further = [name for name in expected if name not in environment()]
    require_equal(expected, environment(*further), who or _this_worker())


def require_equal(expected: Mapping[str, str], found: Mapping[str, str], who: str) -> None:
    """Compare two environments, see :func:`require_same_environment`."""
    differing = [
        f"{name} {found.get(name, 'missing')}, here {expected.get(name, 'missing')}"
        for name in sorted({*expected, *found})
        if found.get(name) != expected.get(name)
    ]
    if differing:
        raise FarmError(
            f"{who[:1].upper()}{who[1:]} has other software: {'; '.join(differing)}.",
            "Start workers from the environment that this command runs in.",
        )


def _this_worker() -> str:
    """Name of the Dask worker that this is, and its machine's."""
    worker = f"the worker on {platform.node()}"
    if "distributed" in sys.modules:
        from distributed import get_worker

        with suppress(ValueError):
            worker = f"worker {get_worker().name} on {platform.node()}"
    return worker


def _hash_code() -> str:
    folder = Path(pileupgen.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
