"""CPU time of an exported student's graphs in ONNX Runtime on one thread.

python -m benchmarks.onnx_speed FOLDER        as 'pileupgen export --onnx FOLDER' writes it
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

OUTPUTS = {"encode": ("scores",), "student": ("translated", "log_ratio"), "decode": ("result",)}
"""Of the graphs, in the order in which they run."""
REPEATS = {100: 5, 1: 30}
"""Calls at each batch size, of which the best counts."""


def main() -> None:
    folder = Path(sys.argv[1])
    with np.load(folder / "check.npz") as arrays:
        known = dict(arrays)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graphs = {}
    for name in OUTPUTS:
        begun = time.process_time()
        graphs[name] = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options)
        print(f"{name:8} loaded in {time.process_time() - begun:.2f} s")
    for n_events, n_repeats in REPEATS.items():
        given = {
            name: np.resize(known[name], (n_events, *known[name].shape[1:])).astype(np.float32)
            for name in ("energy", "mu", "uniform", "noise")
        }
        best = dict.fromkeys(OUTPUTS, np.inf)
        for _ in range(n_repeats):
            values = dict(given)
            for name, graph in graphs.items():
                fed = {item.name: values[item.name] for item in graph.get_inputs()}
                begun = time.process_time()
                found = graph.run(None, fed)
                best[name] = min(best[name], (time.process_time() - begun) / n_events)
                values.update(zip(OUTPUTS[name], found, strict=True))
        parts = ", ".join(f"{name} {1e3 * value:.2f}" for name, value in best.items())
        print(f"batch {n_events:3}: {parts}, all {1e3 * sum(best.values()):.2f} ms an event")


if __name__ == "__main__":
    main()
