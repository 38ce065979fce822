#!/usr/bin/env bash
# uproot 5.7.7: reading a range of entries of an RNTuple that ends where a cluster ends also unpacks the
# cluster after it, and throws that away; RNTuple.iterate with steps of whole clusters therefore unpacks
# every cluster but the first twice. The first call of keys() takes a time that grows with the square of
# the number of fields.
#
# Four clusters of 1,000 entries are read cluster by cluster; pages that are unpacked are counted. Seen:
#   cluster 0 once, clusters 1 to 3 twice each (a TTree's baskets are unpacked once)
#   keys() of 2,000 fields against 500: about sixteen times the time
# RField.array(entry_start, entry_stop) does the same. An array_cache that keeps the cluster beyond the
# range avoids the second unpacking.
#
# Exits with 0 while this holds, with 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uproot==5.7.7 awkward==2.14.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import sys
import time
from collections import Counter

import numpy as np
import uproot

with uproot.recreate("clusters.root") as file:
    ntuple = file.mkrntuple("t", {"x": np.arange(1000.0)})
    for _ in range(3):
        ntuple.extend({"x": np.arange(1000.0)})
ntuple = uproot.open("clusters.root", array_cache=None)["t"]
unpacked = Counter()
read = type(ntuple).read_page


def counting(self, destination, cluster, *rest, **named):
    unpacked[cluster] += 1
    return read(self, destination, cluster, *rest, **named)


type(ntuple).read_page = counting
n = sum(len(arrays) for arrays in ntuple.iterate(["x"], step_size=1000))
print(f"{n} entries, pages unpacked by cluster: {dict(sorted(unpacked.items()))}")


def seconds_of_keys(n_fields):
    with uproot.recreate("fields.root") as file:
        file["t"] = {f"field_{i}": np.zeros(1) for i in range(n_fields)}
    ntuple = uproot.open("fields.root")["t"]
    ntuple.all_fields
    begin = time.process_time()
    assert len(ntuple.keys()) == n_fields
    return time.process_time() - begin


few, many = seconds_of_keys(500), seconds_of_keys(2000)
print(f"keys() of 500 fields {few:.3f} s, of 2,000 fields {many:.3f} s: {many / few:.0f} times")
holds = dict(unpacked) == {0: 1, 1: 2, 2: 2, 3: 2} and many > 8 * few
print("as described" if holds else "changed")
sys.exit(not holds)
PY
