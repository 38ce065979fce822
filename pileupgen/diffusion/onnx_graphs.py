"""The networks of a translation as ONNX graphs, its tables as plain numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pileupgen.diffusion.pipeline import Correction, TranslationPipeline
from pileupgen.diffusion.schedule import alpha_sigma
from pileupgen.models.calibration import quantiles, ranks
from pileupgen.models.calibration.calibration import SLACK
from pileupgen.models.calibration.limits import visible
from pileupgen.models.common_modes import CommonModes
from pileupgen.models.correction import marginals as corrections
from pileupgen.models.correction.correlations import FieldCorrection
from pileupgen.models.networks.denoiser import DATA, MC

OPSET = 17


class _Encoder(nn.Module):
    """Scores to latents, with the common scale of events mapped where the translation does so."""

    def __init__(self, autoencoder: Any, common: CommonModes | None) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.common = common

    def forward(self, scores: Tensor, label: Tensor, mu: Tensor) -> Tensor:
        latents: Tensor = self.autoencoder.encode(scores, label.expand(scores.shape[0]), mu)
        return latents if self.common is None else self.common.move(latents)


class _Decoder(nn.Module):
    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor, label: Tensor, mu: Tensor) -> Tensor:
        mean: Tensor = self.autoencoder.decode(latents, label.expand(latents.shape[0]), mu)[0]
        return mean


class _Velocity(nn.Module):
    """The denoiser with one label, time and noise level for all events."""

    def __init__(self, denoiser: Any) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        label: Tensor,
        mu: Tensor,
        x_0: Tensor,
        alpha: Tensor,
        sigma: Tensor,
    ) -> Tensor:
        n = x_t.shape[0]
        alpha, sigma = alpha.expand(n), sigma.expand(n)
        closed = self.denoiser.field.velocity(x_t, alpha, sigma, label[0])
        known = self.denoiser.estimate(x_0, x_t, closed, alpha, sigma)
        residual = self.denoiser.residual(x_t, t.expand(n), label.expand(n), mu, known)
        velocity: Tensor = closed + residual
        return velocity


class _ClosedForm(nn.Module):
    """What the denoiser is without its network."""

    def __init__(self, denoiser: Any) -> None:
        super().__init__()
        self.field = denoiser.field

    def forward(self, x_t: Tensor, label: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        n = x_t.shape[0]
        velocity: Tensor = self.field.velocity(x_t, alpha.expand(n), sigma.expand(n), label[0])
        return velocity


class _Ratio(nn.Module):
    """Ln r at a release, less that of the modes that were mapped before it."""

    def __init__(self, ratio: Any, common: CommonModes | None) -> None:
        super().__init__()
        self.ratio = ratio
        self.common = common

    def forward(self, x_t: Tensor, t: Tensor, mu: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        n = x_t.shape[0]
        log_ratio: Tensor = self.ratio(x_t, t.expand(n), mu, alpha.expand(n), sigma.expand(n))
        if self.common is not None:
            log_ratio = log_ratio - self.common.log_ratio(x_t).to(log_ratio.dtype)
        return log_ratio


class AtOnce(nn.Module):
    """Scores to translated scores and ln r: encoder, student, ratio and decoder in one."""

    def __init__(self, pipeline: TranslationPipeline, t: int, common: CommonModes | None) -> None:
        super().__init__()
        self.autoencoder: Any = pipeline.autoencoder
        self.ratio = _Ratio(pipeline.ratio, common)
        self.student: Any = pipeline.student
        self.limits = pipeline.calibration.score_limits
        self.t: Tensor
        self.register_buffer("t", torch.tensor([t]))
        self.levels = alpha_sigma(pipeline.scheduler, torch.tensor([t]))

    def forward(
        self, scores: Tensor, mu: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Translated scores (N, L, n_eta, n_phi) and ln r (N,)."""
        n = scores.shape[0]
        label = self.t.new_full((1,), MC).expand(n)
        seen = visible(scores, self.limits)
        x_t, x_0 = self.student(self.autoencoder.encode(seen, label, mu), mu, noise)
        log_ratio: Tensor = self.ratio(x_t, self.t, mu, *self.levels)
        mean: Tensor = self.autoencoder.decode(x_0, label + (DATA - MC), mu)[0]
        return mean, log_ratio


def write_student(
    pipeline: TranslationPipeline, t: int, common: CommonModes | None, folder: Path
) -> dict[str, str]:
    """Write a student, with all that the networks do, as one graph; the name of its file."""
    inputs = {
        "scores": torch.zeros(2, *pipeline.geometry.shape),
        "mu": torch.tensor([60.0, 50.0]),
    }
    module = AtOnce(pipeline, t, common).eval()
    if module.student.has_noise:
        inputs["noise"] = torch.zeros(2, *pipeline.autoencoder.latent_shape)
    write_graph(module, inputs, ["translated", "log_ratio"], folder / "student.onnx")
    return {"student": "student.onnx"}


def write_graphs(
    pipeline: TranslationPipeline, common: CommonModes | None, folder: Path
) -> dict[str, str]:
    """Write encoder, denoiser, its closed form, decoder and ratio; the name of each one's file.

    All take any number of events at a time; label, t, α and σ have shape (1,), one for all events.
    """
    scores = torch.zeros(2, *pipeline.geometry.shape)
    x = torch.zeros(2, *pipeline.autoencoder.latent_shape)
    mu, label, t = torch.tensor([60.0, 50.0]), torch.tensor([DATA]), torch.tensor([300])
    alpha, sigma = torch.tensor([0.8]), torch.tensor([0.6])
    graphs: dict[str, tuple[nn.Module, dict[str, Tensor], str]] = {
        "encoder": (
            _Encoder(pipeline.autoencoder, common),
            {"scores": scores, "label": label, "mu": mu},
            "latents",
        ),
        "denoiser": (
            _Velocity(pipeline.denoiser),
            {
                "x_t": x,
                "t": t,
                "label": label,
                "mu": mu,
                "x_0": x,
                "alpha": alpha,
                "sigma": sigma,
            },
            "velocity",
        ),
        "closed_form": (
            _ClosedForm(pipeline.denoiser),
            {"x_t": x, "label": label, "alpha": alpha, "sigma": sigma},
            "velocity",
        ),
        "decoder": (
            _Decoder(pipeline.autoencoder),
            {"latents": x, "label": label, "mu": mu},
            "scores",
        ),
        "ratio": (
            _Ratio(pipeline.ratio, common),
            {"x_t": x, "t": t, "mu": mu, "alpha": alpha, "sigma": sigma},
            "log_ratio",
        ),
    }
    for name, (module, inputs, output) in graphs.items():
        write_graph(module.eval(), inputs, [output], folder / f"{name}.onnx")
    return {name: f"{name}.onnx" for name in graphs}


def write_graph(
    module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], path: Path
) -> None:
    """Trace a module on inputs; those of more than one event, and all outputs, have any number."""
    by_event = {name: {0: "N"} for name, value in inputs.items() if len(value) > 1}
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer warns of shape checks; the newer exporter needs a package more.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes={**by_event, **{name: {0: "N"} for name in outputs}},
            opset_version=OPSET,
            dynamo=False,
        )


def write_calibration(calibration: Any, decoder: Any, folder: Path) -> dict[str, Any]:
    """Write the quantile tables; tells how to read them.

    Parameters
    ----------
    decoder : CellCalibration
        Decodes translated scores; the calibration itself where their hits are not corrected.
    """
    names = (
        "log_energy",
        "null_mass",
        "mu_centres",
        "is_alive",
        "upper_lines",
        "lower_lines",
        "threshold",
        "null_rate",
    )
    tables = {
        name: _write_table(getattr(calibration, name), folder, f"calibration.{name}")
        for name in names
    }
    if decoder is not calibration:
        corrected = decoder.log_energy[DATA]
        tables["corrected_log_energy"] = _write_table(
            corrected, folder, "calibration.corrected_log_energy"
        )
    return {
        "tables": tables,
        "axes": {
            "log_energy": "domain, layer, ring table, μ bin, part of the layer before, knot",
            "corrected_log_energy": "as log_energy, of decode.domain alone: of translated scores",
            "null_mass": "domain, layer, ring table, μ bin, part of the layer before",
            "is_alive": "domain, layer, eta, phi",
            "upper_lines, lower_lines": "layer, ring table, μ bin, part of the layer before; first "
            "score, slope, correction of ln(E_data / E_mc)",
            "null_rate": "domain, layer, ring table, part of the layer before; per interaction, "
            "beyond the outermost mu_centres",
            "threshold": "domain, layer; GeV, below slack times it a cell is null",
        },
        "ring": calibration.ring.tolist(),
        "s_max": quantiles.S_MAX,
        "s_lowest": ranks.S_LOWEST,
        "s_highest": ranks.S_HIGHEST,
        "slack": SLACK,
        "probability_range": list(ranks.PROBABILITY_RANGE),
    }


def write_correction(correction: Correction | None, folder: Path) -> dict[str, Any] | None:
    """Write maps and knots of the correction, if there is one."""
    if correction is None:
        return None
    sweeps: list[dict[str, Any]] = []
    if isinstance(correction, FieldCorrection):
        for index, marginals in enumerate(correction.marginals):
            tables = {
                "map": correction.maps[index],
                "mean_from": correction.mean_from[index],
                "mean_to": correction.mean_to[index],
                "knots": marginals.knots,
            }
            sweeps.append(_write_sweep(tables, folder, index))
    else:
        sweeps.append(_write_sweep({"knots": correction.knots}, folder, 0))
    return {
        "sweeps": sweeps,
        "axes": {
            "map": "frequency in φ, layer and eta of the result, layer and eta before",
            "mean_from, mean_to": "layer and eta",
            "knots": "layer, eta, knot",
        },
        "s_max": corrections.S_MAX,
    }


def _write_sweep(tables: dict[str, Tensor], folder: Path, index: int) -> dict[str, Any]:
    return {
        name: _write_table(values, folder, f"correction.{index}.{name}")
        for name, values in tables.items()
    }


def _write_table(values: Tensor, folder: Path, name: str) -> dict[str, Any]:
    """Write little endian numbers, last axis fastest, and tell how to read them."""
    array = values.detach().cpu().numpy()
    dtype = "u1" if array.dtype == np.bool_ else "<f4"
    (folder / f"{name}.bin").write_bytes(np.ascontiguousarray(array, dtype=dtype).tobytes())
    return {"file": f"{name}.bin", "dtype": dtype, "shape": list(array.shape)}
