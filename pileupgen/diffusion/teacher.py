"""A deterministic translation without its network, where its student begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.pipeline import TranslationPipeline
from pileupgen.diffusion.settings import Settings
from pileupgen.diffusion.translate import Translator
from pileupgen.errors import ConfigError
from pileupgen.models.networks.local import LocalDenoiser
from pileupgen.models.networks.student import END, RELEASE, Student


def require_distillable(pipeline: TranslationPipeline, settings: Settings) -> None:
    """Refuse settings that one evaluation cannot follow.

    Raises
    ------
    ConfigError
        If settings or model do not fit.
    """
    pipeline.check(settings)
    if not settings.is_deterministic:
        raise ConfigError(
            f"'{settings.describe()}' cannot be distilled: only a deterministic solver can be.",
            "Choose mode invert, or partial with --sampler dpmsolver++ and one release for all.",
        )
    if pipeline.denoiser.has_coarse:
        raise ConfigError(
            "A denoiser that sees the source event cannot be distilled.",
            "Train one without denoiser.coarse_conditioning.",
        )


def new_student(
    pipeline: TranslationPipeline,
    settings: Settings,
    seed: int,
    width: int = 16,
    n_blocks: int = 5,
) -> Student:
    """Make a student that is its teacher without a network, which is known in closed form.

    Parameters
    ----------
    pipeline : TranslationPipeline
        The teacher, on the CPU.
    settings : Settings
        That :func:`require_distillable` lets through.
    seed : int
        Of the first weights of its local layers.
    """
    denoiser, codec = pipeline.denoiser, pipeline.autoencoder
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = Student(
            *codec.latent_shape,
            width,
            n_blocks,
            codec.field_patch,
            mirror=is_mirrored(pipeline),
            has_noise=settings.mode == "partial",
            solver_settings=settings.solver_settings(),
        )
    student.condition.standardise_as(denoiser.condition)
    # The classifier's gradient is no linear map: the layers have that to learn as well.
    w = 0.0 if settings.guidance == "classifier" else settings.w
    plain = replace(settings, network=False, w=w)
    translator = pipeline.translator(Direction())
    for which, (offset, matrices) in enumerate(_affine(translator, student, plain)):
        student.offsets[which] = offset
        student.maps[which] = matrices
    return student


def is_mirrored(pipeline: TranslationPipeline) -> bool:
    """Whether a mirrored event is translated to the mirrored translation."""
    denoiser, codec = pipeline.denoiser, pipeline.autoencoder
    is_local = isinstance(denoiser, LocalDenoiser) and denoiser.mirror
    return is_local and codec.field_patch == codec.patch


@torch.no_grad()
def _affine(
    translator: Translator, student: Student, settings: Settings
) -> Iterator[tuple[Tensor, Tensor]]:
    """Offset (C·H) and matrices (inputs, W//2 + 1, C·H, C·H) of the release and of the end.

    The solver is linear, and uniform in φ: it is asked for zero latents, and for latents that have
    one row's cosine of every frequency at once.
    """
    modes = student.modes
    n = modes.n_rows
    coordinates = torch.zeros(modes.width, 1 + n, n)
    coordinates[modes.cosines, 1:] = torch.eye(n)
    probe = modes.latents(coordinates)
    nothing, mu = torch.zeros_like(probe), torch.full((1 + n,), torch.nan)
    answers: dict[int, list[Tensor]] = {RELEASE: [], END: []}
    for of_latents, of_noise in ((probe, nothing), (nothing, probe))[: student.maps.shape[1]]:
        ends = translator.follow(of_latents, mu, settings, partial(torch.clone, of_noise))
        for which, end in enumerate(ends):
            answers[which].append(modes.coordinates(end.double()))
    for which in (RELEASE, END):
        zero = answers[which][0][:, :1]
        # Columns of the answer to a unit are the matrix's: (W//2 + 1, unit, row) to (…, row, unit).
        matrices = [(one[:, 1:] - zero)[modes.cosines].transpose(1, 2) for one in answers[which]]
        yield zero[0, 0] / modes.width**0.5, torch.stack(matrices)
