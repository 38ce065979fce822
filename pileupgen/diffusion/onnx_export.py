"""A translation for ONNX Runtime: networks as graphs, tables, and what is to be done with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pileupgen.diffusion import run_onnx
from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.events import EventKeys, Events
from pileupgen.diffusion.guidance import Strength
from pileupgen.diffusion.onnx_coding import write_coding
from pileupgen.diffusion.onnx_graphs import (
    write_calibration,
    write_correction,
    write_graphs,
    write_student,
)
from pileupgen.diffusion.pipeline import Correction, TranslationPipeline
from pileupgen.diffusion.schedule import alpha_sigma, forward, inverted_to
from pileupgen.diffusion.settings import CLEAN, Settings
from pileupgen.diffusion.solver_plan import Step, plan_steps
from pileupgen.diffusion.translate import Translator
from pileupgen.errors import ConfigError, RunError, import_extra
from pileupgen.files import folder_written_whole
from pileupgen.models.calibration.limits import MARGIN, RAMP, SCORE_LIMIT, kept_beyond
from pileupgen.models.networks.denoiser import DATA, MC, NULL
from pileupgen.run import versions

FORMAT, FORMAT_VERSION = "pileupgen-onnx", 6


@dataclass(frozen=True)
class OnnxAgreement:
    """How ONNX Runtime and torch compare on the events of ``check.npz``, both in fp32."""

    differences: dict[str, float]
    """Largest difference of each stage, as ``run_onnx.TOLERANCES`` names them."""
    differing_cells: float
    """Fraction of cells whose energies differ by more than 1e-3 of themselves from end to end:
    those on the edge between a hit and none."""
    n_events: int


def export_translation(
    pipeline: TranslationPipeline,
    settings: Settings,
    folder: Path,
    events: Events,
    *,
    correction: Correction | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> OnnxAgreement:
    """Write graphs, tables, ``translation.json``, ``run_onnx.py``, ``check.npz``; check them.

    Parameters
    ----------
    folder : Path
        Takes its name when it is whole; an older one is replaced.
    events : Events
        A few, to check on; written beside the graphs with what torch makes of them. The seed and
        draw of their keys are those of the export.
    provenance : mapping, optional
        Goes into ``translation.json``.

    Raises
    ------
    ConfigError
        If the settings or the model have no counterpart in ONNX.
    DependencyError
        If ONNX Runtime is not installed.
    RunError
        If any stage differs from torch's by more than ``run_onnx.TOLERANCES``.
    OutputError
        If the folder cannot be written.
    """
    require_exportable(pipeline, settings)
    with folder_written_whole(folder) as aside:
        plan = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "made_with": versions("torch", "diffusers", "numpy"),
            "provenance": dict(provenance or {}),
            "grid": pipeline.geometry.to_dict(),
            "settings": settings.to_dict(),
            **_procedure(pipeline, settings, events.keys),
            "graphs": _write_graphs(pipeline, settings, correction, aside),
            "calibration": write_calibration(
                pipeline.calibration, pipeline.decoder(correction, DATA), aside
            ),
            "correction": write_correction(correction, aside),
        }
        text = json.dumps(plan, indent=1, ensure_ascii=False)
        (aside / "translation.json").write_text(text + "\n", encoding="utf-8")
        shutil.copyfile(run_onnx.__file__, aside / "run_onnx.py")
        return _check(pipeline, settings, aside, events, correction)


def _write_graphs(
    pipeline: TranslationPipeline, settings: Settings, correction: Correction | None, folder: Path
) -> dict[str, str]:
    if settings.mode == "calibrate":
        return {}
    common = pipeline.translator(Direction()).common_modes(settings)
    if pipeline.student is not None:
        written = write_student(pipeline, settings.release_timestep, common, folder)
        return written | write_coding(pipeline, correction, folder)
    return write_graphs(pipeline, common, folder)


def require_exportable(pipeline: TranslationPipeline, settings: Settings) -> None:
    """Refuse what ONNX Runtime could not follow; see :func:`export_translation`."""
    import_extra("onnxruntime", "onnx", "The export")
    pipeline.check(settings)
    if settings.release != "common":
        raise ConfigError(
            "A per-event release cannot be exported.", "Choose one t_release for all."
        )
    if settings.mode == "transport":
        raise ConfigError(
            "Mode transport cannot be exported.", "Choose mode calibrate, invert or partial."
        )
    if not (settings.network and settings.switch_class and settings.self_conditioning):
        raise ConfigError("A translation with parts switched off cannot be exported.")
    if settings.w and settings.guidance == "classifier" and pipeline.student is None:
        raise ConfigError(
            "Guidance by the classifier's gradient cannot be exported: ONNX has no gradients.",
            "Choose guidance classifier-free, closed-form or ratio, or distil a student.",
        )
    if not pipeline.calibration.is_plain:
        raise ConfigError(
            "A calibration with negative or tied values cannot be exported.",
            "Images of energies without either can.",
        )
    if pipeline.denoiser.has_coarse:
        raise ConfigError(
            "A denoiser that sees the source event cannot be exported.",
            "Train one without denoiser.coarse_conditioning.",
        )
    for name in ("field", "residual", "estimate"):
        if not hasattr(pipeline.denoiser, name):
            kind = type(pipeline.denoiser).__name__
            raise ConfigError(f"A denoiser of kind {kind} cannot be exported.")


# -- what is to be done ------------------------------------------------------------------------


def _procedure(
    pipeline: TranslationPipeline, settings: Settings, keys: EventKeys
) -> dict[str, Any]:
    is_diffused = settings.mode != "calibrate"
    plain, student = not is_diffused or pipeline.calibrates_before, pipeline.student
    t_start = settings.release_timestep
    if settings.mode == "generate":
        t_start = pipeline.num_train_timesteps - 1
    return {
        "mode": settings.mode,
        "labels": {"mc": MC, "data": DATA, "null": NULL},
        "shapes": {
            "image": list(pipeline.geometry.shape),
            "latent": list(pipeline.autoencoder.latent_shape),
        },
        "order": _ORDER,
        "noise": {
            "seed": keys.seed,
            "generator": "Philox4x64-10 (Salmon et al., SC'11), one per event, as NumPy has it",
            "key": ["seed", "event_id modulo 2^64"],
            "counter": [0, 0, 0, keys.draw],
            "counter_is_raised": "before each block of four 64-bit numbers",
            "32_bit": "of each 64-bit number first the lower half, then the upper",
            "uniform": "(32-bit number >> 8) / 2^24",
            "normal": "NumPy's ziggurat, random_standard_normal_f; another sampler gives other "
            "events of the same distribution",
        },
        "alpha_bar": pipeline.scheduler.alphas_cumprod.double().tolist(),
        "encode": {"domain": MC if plain else DATA, "label": MC},
        "decode": {"domain": DATA, "label": DATA},
        "student": None if student is None else {"draws_noise": student.has_noise},
        "start": _start(pipeline, settings) if student is None else None,
        "phases": _phases(pipeline, settings, t_start) if is_diffused and student is None else [],
        "log_weight_limit": settings.log_weight_limit,
        "limits": {"visible": [-SCORE_LIMIT, SCORE_LIMIT], "ramp": RAMP, "margin": MARGIN},
    }


_ORDER = [
    "Each event draws uniform numbers (image), then, where 'start' or a phase's 'noise' is not "
    "null, normal numbers (latent), then normal numbers (latent) at every step with draws_noise.",
    "calibration.encode: energies to scores with the tables of encode.domain and the uniform "
    "numbers; see class Calibration in run_onnx.py.",
    "student, where not null: scores, clipped to limits.visible, mu and, where it draws_noise, "
    "normal numbers (latent) to translated scores and ln r by the graph of that name, in the place "
    "of everything up to the decoder.",
    "encoder: scores, clipped to limits.visible, to latents x, with label encode.label; the common "
    "scale of events is mapped there, and left out of ratio, where settings.map_scale is true.",
    "start, where not null: x = alpha x + sigma normal.",
    "phases, each beginning with x_0 = 0. Where 'noise' is not null, x = alpha x + sigma normal "
    "first. Where 'ratio' is not null, ln r = ratio(x) then.",
    "steps: v = sum of weight · graph(x, t, label, mu, x_0, alpha, sigma) over 'velocity', each "
    "graph being given the inputs it has; eps = sigma x + alpha v; x_0 = alpha x - sigma v; then "
    "x = the combination of x, x_0, x_0 of the step before, eps and noise with the step's "
    "coefficients of these names.",
    "decoder: x to scores, with label decode.label.",
    "correction, where not null, sweep by sweep: where there is a map, Fourier modes in φ of the "
    "scores less mean_from, times the map of their frequency, back, plus mean_to; then scores to "
    "scores by the knots, per layer and ring; see transport and correct.",
    "Unless mode is calibrate: scores of cells whose encoded score lay beyond limits.visible are "
    "replaced by it; see kept_beyond.",
    "calibration.decode: scores to energies in GeV with the tables of decode.domain, "
    "corrected_log_energy, where there is one, in the place of log_energy; cells whose encoded "
    "score lay above limits.visible take what the encoded scores are decoded to with log_energy.",
    "The event's weight is exp(ln r), ln r clipped to -/+ log_weight_limit.",
    "The graphs encode and decode, where there are some, do calibration.encode, and the correction "
    "with all after it but the weight. encode: energy, mu and uniform numbers to scores; decode: "
    "translated scores, those of encode and mu to energies.",
]


def _start(pipeline: TranslationPipeline, settings: Settings) -> dict[str, Any] | None:
    if settings.mode == "generate":
        return {"alpha": 0.0, "sigma": 1.0}
    is_noised = settings.mode == "partial" and settings.release_timestep > 0
    if is_noised and _inverted_to(pipeline, settings) == CLEAN:
        return _level(pipeline, settings.release_timestep)
    return None


def _phases(
    pipeline: TranslationPipeline, settings: Settings, t_start: int
) -> list[dict[str, Any]]:
    down = settings.decoding_timesteps(t_start) if t_start > 0 else []
    phases = []
    noise = None
    t_inverted = CLEAN
    if down and settings.inverts:
        t_inverted = t_start
    elif down and settings.mode == "partial":
        t_inverted = _inverted_to(pipeline, settings)
        alpha, sigma = forward(pipeline.scheduler, t_inverted, t_start)
        noise = {"alpha": alpha, "sigma": sigma} if t_inverted > CLEAN else None
    if t_inverted > CLEAN:
        up = [*(t for t in down[::-1] if t < t_inverted), t_inverted]
        inversion = plan_steps(up, pipeline.scheduler, settings.inversion_sampler)
        steps = [_step(step, [_Term("denoiser", MC, 1.0)]) for step in inversion]
        phases.append({"name": "invert", "noise": None, "ratio": None, "steps": steps})
    decoding: list[Step] = []
    if down:
        sampler, eta = settings.decoding_sampler, settings.eta
        decoding = plan_steps(down, pipeline.scheduler, sampler, eta)
    strength = Strength(settings.w, settings.guidance_schedule, t_start, settings.guidance_interval)
    steps = []
    for step in decoding:
        w = strength(step.t)
        steps.append(_step(step, _guided(settings, w)))
    has_ratio = settings.mode != "generate"
    ratio = _level(pipeline, max(t_start, CLEAN + 1)) if has_ratio else None
    return [*phases, {"name": "decode", "noise": noise, "ratio": ratio, "steps": steps}]


def _inverted_to(pipeline: TranslationPipeline, settings: Settings) -> int:
    return inverted_to(pipeline.scheduler, settings.release_timestep, settings.fresh_noise)


@dataclass(frozen=True)
class _Term:
    """A graph's answer for one label, and its share of the velocity."""

    graph: str
    label: int
    weight: float


def _guided(settings: Settings, w: float) -> list[_Term]:
    """The velocity as data, guided."""
    if not w:
        return [_Term("denoiser", DATA, 1.0)]
    if settings.guidance == "closed-form":
        contrast = [_Term("closed_form", DATA, w), _Term("closed_form", NULL, -w)]
        return [_Term("denoiser", DATA, 1.0), *contrast]
    other = MC if settings.guidance == "ratio" else NULL
    return [_Term("denoiser", DATA, 1 + w), _Term("denoiser", other, -w)]


def _step(step: Step, velocity: list[_Term]) -> dict[str, Any]:
    return {**step.to_dict(), "velocity": [asdict(term) for term in velocity]}


def _level(pipeline: TranslationPipeline, t: int) -> dict[str, Any]:
    alpha, sigma = alpha_sigma(pipeline.scheduler, torch.tensor([t]))
    return {"t": t, "alpha": float(alpha[0]), "sigma": float(sigma[0])}


# -- check -------------------------------------------------------------------------------------


def _check(
    pipeline: TranslationPipeline,
    settings: Settings,
    folder: Path,
    events: Events,
    correction: Correction | None,
) -> OnnxAgreement:
    translator = Translator(
        pipeline.calibration,
        pipeline.autoencoder,
        pipeline.denoiser,
        pipeline.ratio,
        pipeline.scheduler,
        pipeline.calibrates_before,
        bf16=False,
        student=pipeline.student,
    )
    scores = torch.empty(events.energy.shape)
    log_ratio = np.empty(len(events.energy))
    for part in translator.parts(events, settings):
        scores[part.rows], log_ratio[part.rows] = part.scores, part.log_ratio.numpy()
    source, mu, noise = events.of(np.arange(len(scores)))
    tables = translator.tables(MC, settings)
    uniform = noise.uniform(tuple(scores.shape[1:]))
    encoded = pipeline.calibration.encode(source, tables, mu, uniform)
    corrected = scores if correction is None else correction(scores)
    if settings.mode != "calibrate":
        limits, n_layers = pipeline.calibration.score_limits, pipeline.calibration.n_layers
        kept = None if settings.mode == "generate" else encoded
        corrected = kept_beyond(kept, corrected, limits, n_layers)
    decoder = pipeline.decoder(correction, DATA)
    energy = decoder.decode(corrected, DATA, mu).numpy()
    if settings.mode != "generate":
        own = pipeline.calibration.decode(encoded, DATA, mu).numpy()
        energy = np.where(encoded.numpy() > SCORE_LIMIT, own, energy)
    np.savez(
        folder / "check.npz",
        energy=events.energy,
        mu=events.mu,
        event_id=events.keys.event_id,
        seed=events.keys.seed,
        uniform=uniform.numpy(),
        encoded=encoded.numpy(),
        noise=noise.normal(pipeline.autoencoder.latent_shape).numpy(),
        scores=scores.numpy(),
        log_ratio=log_ratio,
        corrected=corrected.numpy(),
        translated=energy,
    )
    differences = run_onnx.check(folder)
    found = run_onnx.ExportedTranslation(folder)(
        events.energy, events.mu, events.keys.event_id, events.keys.seed
    )
    faults = run_onnx.too_different(differences)
    if faults:
        raise RunError(
            f"ONNX Runtime's results differ from torch's ({'; '.join(faults)}); nothing was "
            "exported.",
            "Please report it with the model's config.yaml.",
        )
    is_same = np.isclose(found.energy, energy, rtol=1e-3, atol=0)
    return OnnxAgreement(differences, float(np.mean(~is_same)), len(energy))
