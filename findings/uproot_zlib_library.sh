#!/usr/bin/env bash
# uproot 5.7.7 with isal 1.9.1 and deflate 0.9.0: uproot.ZLIB.library, by which ZLIB is to be done by ISA-L
# or libdeflate, is for writing alone. Reading goes on with Python's zlib; "deflate" cannot read at all.
#
# A tree of 200,000 numbers, packed by ZLIB(1), is written and read with each value of the option; calls of
# the three libraries' decompress are counted. Seen:
#   uproot.ZLIB.library = "isal" or "deflate": read by zlib
#   uproot.compression._decompress_ZLIB.library = "isal", an instance that nothing documents: read by isal
#   the same = "deflate": TypeError, since uproot gives bufsize where deflate 0.9.0 has originalsize
# The readers are instances of a base class of ZLIB, which an attribute of ZLIB itself does not reach.
#
# Exits with 0 while this holds, with 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uproot==5.7.7 awkward==2.14.0 numpy==2.4.6 isal==1.9.1 deflate==0.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import sys
import zlib

import deflate
import numpy as np
import uproot
from isal import isal_zlib

numbers = np.random.default_rng(1).normal(size=200_000).astype(np.float32)
numbers[numbers < 0.3] = 0
with uproot.recreate("numbers.root", compression=uproot.ZLIB(1)) as file:
    file["t"] = {"x": numbers}

calls = []


def count(module, name):
    unpack = getattr(module, name)

    def counting(*arguments, **named):
        calls.append(module.__name__.split(".")[0])
        return unpack(*arguments, **named)

    setattr(module, name, counting)


count(zlib, "decompress")
count(isal_zlib, "decompress")
count(deflate, "zlib_decompress")


def read():
    """The library that unpacks the branch, or the error."""
    branch = uproot.open("numbers.root", array_cache=None)["t"]["x"]
    calls.clear()
    try:
        assert np.array_equal(branch.array(library="np"), numbers)
    except TypeError as error:
        return f"TypeError: {error}"
    return " ".join(sorted(set(calls)))


found = {}
for library in ("isal", "deflate"):
    uproot.ZLIB.library = library
    found[f"ZLIB.library = {library!r}"] = read()
uproot.ZLIB.library = "zlib"
for library in ("isal", "deflate"):
    uproot.compression._decompress_ZLIB.library = library
    found[f"_decompress_ZLIB.library = {library!r}"] = read()
for option, by in found.items():
    print(f"{option}: {by}")
by = list(found.values())
holds = by[:3] == ["zlib", "zlib", "isal"] and "originalsize" in by[3]
print("as described" if holds else "changed")
sys.exit(not holds)
PY
