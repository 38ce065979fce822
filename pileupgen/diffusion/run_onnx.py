"""Translate events with exported networks: NumPy and ONNX Runtime alone, no pileupgen, no torch.

    python run_onnx.py events.npz translated.npz    energy, mu, event_id → energy, log_ratio
    python run_onnx.py --check                      the events in check.npz, against torch's results

This file is the reference for whoever writes the same in C++: what ``translation.json`` describes,
in the same order.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

TOLERANCES = {
    "encoded score": 1e-4,
    "translated score": 1e-4,
    "ln r": 1e-4,
    "corrected score": 1e-4,
    "energy": 1e-4,
    "cells with energy": 0.0,
}
"""Largest differences from torch's results that --check allows.

Scores and ln r as they are; of the energies the largest relative difference, among cells that have
energy in both; and the fraction of cells that have energy in one of the two only.
"""


@dataclass(frozen=True)
class Result:
    """Translated events and what they were on the way."""

    energy: Floats
    """GeV. Shape (N, L, n_eta, n_phi)."""
    log_ratio: Floats
    """ln r at the release; the event's weight is its exponential, clipped. Shape (N,)."""
    encoded: Floats
    scores: Floats
    corrected: Floats
    """Scores of the source, and of the result before and after the correction. Shape (N, L, n_eta,
    n_phi)."""


class ExportedTranslation:
    """An exported translation.

    Parameters
    ----------
    n_threads : int
        Threads of ONNX Runtime; 0 takes its default.
    """

    def __init__(self, folder: Path, n_threads: int = 0) -> None:
        import onnxruntime

        self.plan: dict[str, Any] = json.loads((folder / "translation.json").read_text("utf-8"))
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = n_threads
        self._folder, self._sessions = folder, dict[str, Any]()
        self._calibration = Calibration(self.plan["calibration"], folder)
        self._sweeps = [
            {name: read_table(table, folder) for name, table in sweep.items()}
            for sweep in (self.plan["correction"] or {"sweeps": []})["sweeps"]
        ]

    def __call__(self, energy: Floats, mu: Floats, event_id: Integers, seed: int) -> Result:
        """Translate events (N, L, n_eta, n_phi) in GeV with their μ (NaN: unknown) and numbers."""
        plan, mu = self.plan, mu.astype(np.float32)
        noise = CounterNoise(seed, event_id, int(plan["noise"]["counter"][3]))
        uniform = noise.uniform(energy.shape[1:])
        encoded = self._calibration.encode(energy, plan["encode"]["domain"], mu, uniform)
        log_ratio = np.zeros(len(energy), dtype=np.float32)
        low, high = plan["limits"]["visible"]
        seen = np.clip(encoded, np.float32(low), np.float32(high))
        if plan["mode"] == "calibrate":
            scores = encoded
        elif plan["student"] is not None:
            fed = {"scores": seen, "mu": mu}
            if plan["student"]["draws_noise"]:
                fed["noise"] = noise.normal(tuple(plan["shapes"]["latent"]))
            scores, log_ratio = self.answers("student", fed)
        else:
            x = self._graph("encoder", scores=seen, label=_one(plan["encode"]["label"]), mu=mu)
            if plan["start"] is not None:
                start = plan["start"]
                eps = noise.normal(x.shape[1:])
                x = np.float32(start["alpha"]) * x + np.float32(start["sigma"]) * eps
            for phase in plan["phases"]:
                if phase["noise"] is not None:
                    eps = noise.normal(x.shape[1:])
                    x = np.float32(phase["noise"]["alpha"]) * x
                    x = x + np.float32(phase["noise"]["sigma"]) * eps
                if phase["ratio"] is not None:
                    log_ratio = self._ratio(x, phase["ratio"], mu)
                x = self._follow(x, phase["steps"], mu, noise)
            scores = self._graph("decoder", latents=x, label=_one(plan["decode"]["label"]), mu=mu)
        corrected = self.correct(scores, encoded)
        energy = self.decode(corrected, encoded, mu)
        return Result(energy, log_ratio, encoded, scores, corrected)

    def correct(self, scores: Floats, encoded: Floats) -> Floats:
        """Apply the correction, if there is one, sweep by sweep, and keep cells beyond the limits.

        Parameters
        ----------
        scores : float32 array, shape (N, L, n_eta, n_phi)
            Translated scores.
        encoded : float32 array, shape (N, L, n_eta, n_phi)
            Those of the source.
        """
        for sweep in self._sweeps:
            if "map" in sweep:
                scores = transport(scores, sweep["map"], sweep["mean_from"], sweep["mean_to"])
            scores = correct(scores, sweep["knots"], self.plan["correction"]["s_max"])
        if self.plan["mode"] == "calibrate":
            return scores
        source = None if self.plan["mode"] == "generate" else encoded
        return kept_beyond(source, scores, self.plan["limits"])

    def decode(self, scores: Floats, encoded: Floats, mu: Floats) -> Floats:
        """Corrected scores to energies in GeV, with the tables of the target.

        Cells whose encoded score lay above the limit are those of the encoded event, calibrated.
        """
        domain = self.plan["decode"]["domain"]
        energy = self._calibration.decode(scores, domain, mu, is_translated=True)
        above = encoded > self.plan["limits"]["visible"][1]
        if self.plan["mode"] == "generate" or not above.any():
            return energy
        return np.where(above, self._calibration.decode(encoded, domain, mu), energy)

    def _ratio(self, x: Floats, point: dict[str, Any], mu: Floats) -> Floats:
        t, alpha, sigma = _one(point["t"]), _real(point["alpha"]), _real(point["sigma"])
        return self._graph("ratio", x_t=x, t=t, mu=mu, alpha=alpha, sigma=sigma)

    def _follow(
        self, x: Floats, steps: list[dict[str, Any]], mu: Floats, noise: CounterNoise
    ) -> Floats:
        """One phase: every step asks the denoiser and takes a linear combination."""
        x_0 = np.zeros_like(x)
        for step in steps:
            alpha, sigma = np.float32(step["alpha"]), np.float32(step["sigma"])
            velocity = np.zeros_like(x)
            for term in step["velocity"]:
                part = self._graph(
                    term["graph"],
                    x_t=x,
                    t=_one(step["t"]),
                    label=_one(term["label"]),
                    mu=mu,
                    x_0=x_0,
                    alpha=_real(step["alpha"]),
                    sigma=_real(step["sigma"]),
                )
                velocity += np.float32(term["weight"]) * part
            before, eps = x_0, sigma * x + alpha * velocity
            x_0 = alpha * x - sigma * velocity
            new = np.zeros_like(x)
            for name, vector in (("x", x), ("x_0", x_0), ("x_0_before", before), ("eps", eps)):
                if step[name]:
                    new += np.float32(step[name]) * vector
            if step["draws_noise"]:
                new += np.float32(step["noise"]) * noise.normal(x.shape[1:])
            x = new
        return x

    def _graph(self, name: str, **inputs: Any) -> Any:
        return self.answers(name, inputs)[0]

    def answers(self, name: str, inputs: dict[str, Any]) -> list[Any]:
        """All that a graph says, given the inputs that it has."""
        session = self._session(name)
        return list(
            session.run(None, {item.name: inputs[item.name] for item in session.get_inputs()})
        )

    def _session(self, name: str) -> Any:
        """A graph ready to run, loaded at its first use."""
        import onnxruntime

        if name not in self._sessions:
            path = self._folder / self.plan["graphs"][name]
            self._sessions[name] = onnxruntime.InferenceSession(
                str(path), self._options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[name]


class CounterNoise:
    """Each event's own Philox4x64-10, keyed by (seed, event), its counter from (0, 0, 0, draw)."""

    def __init__(self, seed: int, event_id: Integers, draw: int) -> None:
        self._generators = [
            np.random.Generator(
                np.random.Philox(key=[seed, int(event) & (2**64 - 1)], counter=[0, 0, 0, draw])
            )
            for event in event_id
        ]

    def uniform(self, shape: tuple[int, ...]) -> Floats:
        """The next uniform numbers of every event."""
        draws = [generator.random(shape, dtype=np.float32) for generator in self._generators]
        return np.stack(draws)

    def normal(self, shape: tuple[int, ...]) -> Floats:
        """The next standard normal numbers of every event."""
        return np.stack(
            [generator.standard_normal(shape, dtype=np.float32) for generator in self._generators]
        )


class Calibration:
    """Energies to Gaussian scores and back, by quantile tables."""

    def __init__(self, plan: dict[str, Any], folder: Path) -> None:
        tables = {name: read_table(entry, folder) for name, entry in plan["tables"].items()}
        self._log_energy = tables["log_energy"].astype(np.float64)
        corrected = tables.get("corrected_log_energy")
        self._corrected = None if corrected is None else corrected.astype(np.float64)
        self._null_mass = tables["null_mass"].astype(np.float64)
        self._null_rate = tables["null_rate"].astype(np.float64)
        self._mu_centres = tables["mu_centres"].astype(np.float64)
        self._is_alive = tables["is_alive"].astype(bool)
        self._lines = {
            end: tables[f"{name}_lines"].astype(np.float64)
            for end, name in ((1, "upper"), (-1, "lower"))
        }
        self._threshold = float(plan["slack"]) * tables["threshold"].astype(np.float64)
        self._ring = np.asarray(plan["ring"], dtype=np.int64)
        self._s_max = float(plan["s_max"])
        self._s_lowest, self._s_highest = float(plan["s_lowest"]), float(plan["s_highest"])
        self._low, self._high = plan["probability_range"]

    def encode(self, energy: Floats, domain: int, mu: Floats, uniform: Floats) -> Floats:
        """Energies to scores, the deepest layer first; null cells take ``uniform`` ranks."""
        scores = np.empty(energy.shape, dtype=np.float32)
        condition: Doubles | None = None
        for layer in reversed(range(energy.shape[1])):
            value = energy[:, layer].astype(np.float64)
            value = np.where(np.abs(value) < self._threshold[domain, layer], 0.0, value)
            corners = self._corners(mu, condition, value.shape)
            knots = self._log_energy[domain, layer].reshape(-1, self._log_energy.shape[-1])
            null = self._null(domain, layer, mu, condition, corners[0][0].shape)
            s = self._score_of(np.log(np.clip(value, 1e-30, 1e30)), knots, corners)
            tail = ndtr(-np.maximum(s, self._s_lowest))
            mass = np.where(self._is_alive[domain, layer], null, 1.0)
            ranks = 1 - mass * uniform[:, layer].astype(np.float64)
            upper = np.where(value > 0, (1 - null) * tail, ranks)
            score = -ndtri(np.clip(upper, self._low, self._high))
            for end in self._lines:
                lines = self._line(domain, layer, end, null, knots, corners)
                beyond = (value > 0) & (end * score > lines[0])
                height = np.maximum(end * (np.log(np.clip(value, 1e-30, 1e30)) - lines[3]), 0)
                score = np.where(beyond, end * (lines[0] + _along(height, *lines[1:3])), score)
                tail = np.where(beyond, ndtr(-score) / (1 - null), tail)
            scores[:, layer] = score
            condition = np.where(value > 0, 1 - tail, -1.0)
        return scores

    def decode(
        self, scores: Floats, domain: int, mu: Floats, *, is_translated: bool = False
    ) -> Floats:
        """Scores to energies in GeV, the deepest layer first.

        The hits of translated scores take their energies from the corrected tables, if there are
        any.
        """
        tables = self._log_energy[domain]
        if is_translated and self._corrected is not None:
            tables = self._corrected
        energy = np.empty(scores.shape, dtype=np.float32)
        condition: Doubles | None = None
        for layer in reversed(range(scores.shape[1])):
            corners = self._corners(mu, condition, scores[:, layer].shape)
            knots = tables[layer].reshape(-1, tables.shape[-1])
            null = self._null(domain, layer, mu, condition, corners[0][0].shape)
            score = scores[:, layer].astype(np.float64)
            tail = ndtr(-score) / (1 - null)
            hit = (tail < 1) & self._is_alive[domain, layer]
            s = np.minimum(-ndtri(np.clip(tail, self._low, self._high)), self._s_highest)
            value = np.where(hit, np.exp(self._log_energy_of(s, knots, corners)), 0.0)
            for end in self._lines:
                begin, slope, shift, first = self._line(domain, layer, end, null, knots, corners)
                beyond = (end * score > begin) & self._is_alive[domain, layer]
                x = np.maximum(end * score - begin, 0)
                height = slope * x + np.sign(shift) * np.minimum(np.abs(shift), 0.5 * slope * x)
                size = np.exp(np.clip(first + end * height, -69, 69))
                value, hit = np.where(beyond, size, value), hit | beyond
            energy[:, layer] = value
            condition = np.where(hit, 1 - tail, -1.0)
        return energy

    def _corners(
        self, mu: Floats, condition: Doubles | None, shape: tuple[int, ...]
    ) -> list[tuple[Integers, Doubles]]:
        """Tables that each cell mixes, and their shares: two in μ, two in the layer before."""
        n_mu, n_parts = self._log_energy.shape[3], self._log_energy.shape[4]
        ring = np.broadcast_to(self._ring[None, :, None], shape)
        found = []
        for mu_bin, mu_share in self._mu_corners(mu):
            for part, part_share in _condition_corners(condition, n_parts - 1, shape):
                found.append(((ring * n_mu + mu_bin) * n_parts + part, mu_share * part_share))
        return found

    def _mu_corners(self, mu: Floats) -> list[tuple[Integers, Doubles]]:
        centres = self._mu_centres
        if len(centres) == 1:
            zero = np.zeros((len(mu), 1, 1))
            return [(zero.astype(np.int64), zero + 1)]
        known = np.where(np.isfinite(mu), mu.astype(np.float64), centres[len(centres) // 2])
        low = np.clip(np.searchsorted(centres, known) - 1, 0, len(centres) - 2)
        width = np.maximum(centres[low + 1] - centres[low], 1e-9)
        share = np.clip((known - centres[low]) / width, 0, 1)[:, None, None]
        low = low[:, None, None].astype(np.int64)
        return [(low, 1 - share), (low + 1, share)]

    def _null(
        self, domain: int, layer: int, mu: Floats, condition: Doubles | None, shape: tuple[int, ...]
    ) -> Doubles:
        """Probability of a null cell: mixed from the tables, and by exp(−p μ) beyond their μ."""
        corners = self._corners(mu, condition, shape)
        null = self._mixed(self._null_mass[domain, layer].ravel(), corners)
        own, centres = mu.astype(np.float64)[:, None, None], self._mu_centres
        distance = np.where(np.isfinite(own), own - np.clip(own, centres[0], centres[-1]), 0.0)
        n_parts = self._log_energy.shape[4]
        ring = np.broadcast_to(self._ring[None, :, None], shape) * n_parts
        parts = _condition_corners(condition, n_parts - 1, shape)
        law = self._null_rate[domain, layer].ravel()
        rate = self._mixed(law, [(ring + part, share) for part, share in parts])
        return np.where(distance == 0, null, np.clip(null * np.exp(-rate * distance), 0, 1 - 1e-6))

    def _line(
        self,
        domain: int,
        layer: int,
        end: int,
        null: Doubles,
        knots: Doubles,
        corners: list[tuple[Integers, Doubles]],
    ) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        """Line beyond one end: its first score, slope, correction of the ratio, first ln E."""
        table = self._lines[end][layer].reshape(-1, 3)
        begin, slope, correction = (self._mixed(column, corners) for column in table.T)
        fraction = np.clip(ndtr(-begin) / (1 - null), self._low, self._high)
        s = -end * ndtri(fraction)
        shift = end * (0.5 if domain else -0.5) * correction
        return begin, slope, shift, self._log_energy_of(s, knots, corners)

    @staticmethod
    def _mixed(values: Doubles, corners: list[tuple[Integers, Doubles]]) -> Doubles:
        return np.asarray(sum(share * values[index] for index, share in corners))

    @staticmethod
    def _at(knots: Doubles, corners: list[tuple[Integers, Doubles]], knot: Integers) -> Doubles:
        return np.asarray(sum(share * knots[index, knot] for index, share in corners))

    def _log_energy_of(
        self, s: Doubles, knots: Doubles, corners: list[tuple[Integers, Doubles]]
    ) -> Doubles:
        """Linear between knots even in s, and beyond them with the outermost slope."""
        n_knots = knots.shape[-1]
        position = (s + self._s_max) * (n_knots - 1) / (2 * self._s_max)
        low = np.clip(np.floor(position).astype(np.int64), 0, n_knots - 2)
        left, right = self._at(knots, corners, low), self._at(knots, corners, low + 1)
        return left + (position - low) * (right - left)

    def _score_of(
        self, log_energy: Doubles, knots: Doubles, corners: list[tuple[Integers, Doubles]]
    ) -> Doubles:
        """Inverse of :meth:`_log_energy_of`, by bisection over the knots."""
        n_knots = knots.shape[-1]
        low = np.zeros(log_energy.shape, dtype=np.int64)
        high = np.full_like(low, n_knots - 1)
        for _ in range((n_knots - 1).bit_length()):
            middle = (low + high) // 2
            above = self._at(knots, corners, middle) <= log_energy
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        low = np.clip(low, 0, n_knots - 2)
        left = self._at(knots, corners, low)
        slope = np.maximum(self._at(knots, corners, low + 1) - left, 1e-9)
        step = 2 * self._s_max / (n_knots - 1)
        return (low + (log_energy - left) / slope) * step - self._s_max


def _along(height: Doubles, slope: Doubles, shift: Doubles) -> Doubles:
    """How far along a line in score its ln E has come this far."""
    is_turning = height <= 2 * np.abs(shift) + shift
    return np.where(
        is_turning, height / (slope * (1 + 0.5 * np.sign(shift))), (height - shift) / slope
    )


def kept_beyond(source: Floats | None, result: Floats, limits: dict[str, Any]) -> Floats:
    """Bounded scores; cells whose own score lay beyond the limits keep it."""
    low, high = limits["visible"]
    bounded = np.clip(result, low - limits["margin"], high + limits["margin"])
    if source is None:
        return np.asarray(bounded, dtype=np.float32)
    share = np.clip(np.minimum(source - low, high - source) / limits["ramp"], 0, 1)
    return np.asarray(bounded + (1 - share) * (source - bounded), dtype=np.float32)


def _condition_corners(
    condition: Doubles | None, n_parts: int, shape: tuple[int, ...]
) -> list[tuple[Integers, Doubles]]:
    """Part 0 is for null cells of the layer before, the others for equal shares of its hits."""
    if condition is None or n_parts == 0:
        return [(np.zeros(shape, dtype=np.int64), np.ones(shape))]
    position = np.clip(condition * n_parts - 0.5, 0, n_parts - 1)
    low = np.minimum(np.floor(position), max(n_parts - 2, 0))
    null = condition < 0
    first = np.where(null, 0, 1 + low.astype(np.int64))
    second = np.where(null, 0, np.minimum(2 + low.astype(np.int64), n_parts))
    return [(first, 1 - (position - low)), (second, position - low)]


def transport(scores: Floats, maps: Floats, mean_from: Floats, mean_to: Floats) -> Floats:
    """Scores of one Gaussian field to another's: a matrix for each frequency in φ."""
    n_phi = scores.shape[-1]
    flat = scores.reshape(len(scores), -1, n_phi)
    modes = np.fft.rfft(flat - mean_from[:, None], axis=2)
    moved = np.einsum("kij,njk->nik", maps, modes, optimize=True)
    cells = np.fft.irfft(moved, n=n_phi, axis=2) + mean_to[:, None]
    return cells.reshape(scores.shape).astype(np.float32)


def correct(scores: Floats, knots: Floats, s_max: float) -> Floats:
    """Scores of each layer and ring back to N(0, 1): linear between knots, shifted beyond."""
    out = np.empty_like(scores)
    n_knots, step = knots.shape[-1], np.float32(2 * s_max / (knots.shape[-1] - 1))
    for layer in range(scores.shape[1]):
        for ring in range(scores.shape[2]):
            table, values = knots[layer, ring], scores[:, layer, ring]
            inside = np.clip(values, table[0], table[-1])
            low = np.clip(np.searchsorted(table, inside) - 1, 0, n_knots - 2)
            position = low + (inside - table[low]) / (table[low + 1] - table[low])
            out[:, layer, ring] = position * step - np.float32(s_max) + (values - inside)
    return out


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def ndtr(x: Doubles) -> Doubles:
    """Φ(x), also far out in the lower tail."""
    return np.asarray(0.5 * _erfc(-x * math.sqrt(0.5)))


_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_TAIL = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177,
     1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055,
     4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966,
     0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494,
     2.05319162663775882187, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     0.026532189526576123093, 0.29656057182850489123, 1.7848265399172913358,
     5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5,
     7.868691311456132591e-4, 0.0148753612908506148525, 0.13692988092273580531,
     0.59983220655588793769, 1.0),
)  # fmt: skip


def ndtri(p: Doubles) -> Doubles:
    """Φ⁻¹(p) by rational functions (Wichura, algorithm AS 241, PPND16)."""
    q = p - 0.5
    r = np.sqrt(-np.log(np.minimum(p, 1 - p)))
    centre = 0.180625 - q * q
    far = np.where(
        r <= 5,
        np.polyval(_TAIL[0], r - 1.6) / np.polyval(_TAIL[1], r - 1.6),
        np.polyval(_FAR[0], r - 5) / np.polyval(_FAR[1], r - 5),
    )
    near = q * np.polyval(_CENTRE[0], centre) / np.polyval(_CENTRE[1], centre)
    return np.asarray(np.where(np.abs(q) <= 0.425, near, np.copysign(far, q)))


def read_table(entry: dict[str, Any], folder: Path) -> NDArray[Any]:
    """A table as it lies on disk: little endian, last axis fastest."""
    values = np.fromfile(folder / entry["file"], dtype=np.dtype(entry["dtype"]))
    return values.reshape(entry["shape"])


def _one(value: int) -> Integers:
    return np.array([value], dtype=np.int64)


def _real(value: float) -> Floats:
    return np.array([value], dtype=np.float32)


def check(folder: Path) -> dict[str, float]:
    """Compare every stage with what torch made of the events in ``check.npz``.

    Encoding, translation and ln r are compared from the energies on; the correction and the
    decoding are each given what torch gave them, as a score that differs in its last digit may be
    on the other side of the threshold between a cell with energy and one without.

    Returns
    -------
    dict of str to float
        The differences, by the names in :data:`TOLERANCES`; NaN counts as infinitely different.
    """
    with np.load(folder / "check.npz") as arrays:
        known = dict(arrays)
    translation, mu = ExportedTranslation(folder), known["mu"].astype(np.float32)
    result = translation(known["energy"], mu, known["event_id"], int(known["seed"]))
    expected, encoded = known["translated"], [result.encoded]
    energies = [translation.decode(known["corrected"], known["encoded"], mu)]
    if "encode" in translation.plan["graphs"]:
        encoded += translation.answers("encode", {**known, "mu": mu})
    if "decode" in translation.plan["graphs"]:
        fed = {"translated": known["scores"], "scores": known["encoded"], "mu": mu}
        energies += translation.answers("decode", fed)
    both = [(energy > 0) & (expected > 0) for energy in energies]
    found = {
        "encoded score": np.abs([scores - known["encoded"] for scores in encoded]),
        "translated score": np.abs(result.scores - known["scores"]),
        "ln r": np.abs(result.log_ratio - known["log_ratio"]),
        "corrected score": np.abs(
            translation.correct(known["scores"], known["encoded"]) - known["corrected"]
        ),
        "energy": np.concatenate(
            [np.abs(e[b] / expected[b] - 1) for e, b in zip(energies, both, strict=True)]
        ),
        "cells with energy": max(np.mean((e > 0) != (expected > 0)) for e in energies),
    }
    return {
        name: float(np.nan_to_num(np.max(values, initial=0), nan=np.inf))
        for name, values in found.items()
    }


def too_different(differences: dict[str, float]) -> list[str]:
    """Say of each difference that is larger than its tolerance what it is and may be."""
    return [
        f"{name}: {value:.1e}, allowed {TOLERANCES[name]:.0e}"
        for name, value in differences.items()
        if not value <= TOLERANCES[name]
    ]


def main(arguments: list[str]) -> int:
    """Run from the command line; 0 where all is well."""
    folder = Path(__file__).parent
    if arguments == ["--check"]:
        differences = check(folder)
        for name, value in differences.items():
            verdict = "agrees" if value <= TOLERANCES[name] else "DIFFERS"
            sys.stdout.write(
                f"{name:<18} {verdict}: {value:.1e} (allowed: {TOLERANCES[name]:.0e})\n"
            )
        return 1 if too_different(differences) else 0
    if len(arguments) != 2:
        sys.stderr.write((__doc__ or "") + "\n")
        return 2
    with np.load(arguments[0]) as arrays:
        events = dict(arrays)
    translation = ExportedTranslation(folder)
    result = translation(
        events["energy"], events["mu"], events["event_id"], int(translation.plan["noise"]["seed"])
    )
    np.savez(arguments[1], energy=result.energy, log_ratio=result.log_ratio)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
