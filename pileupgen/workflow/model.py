"""A run's trained model: its identity, its pipeline, its release scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pileupgen.errors import ConfigError, RunError, first_line
from pileupgen.run import RunDirectory, fingerprint, hash_file

if TYPE_CHECKING:
    from pileupgen.diffusion.pipeline import TranslationPipeline
    from pileupgen.diffusion.release import ReleaseScan


def model_identity(directory: RunDirectory) -> str:
    """Fingerprint of a trained model: what it was made from, and its weights.

    Raises
    ------
    RunError
        If the run has no trained model.
    """
    made_from = directory.details("train")["made_from"]
    weights = sorted(directory.model.rglob("*.safetensors"))
    return fingerprint([made_from, {str(p.parent.name): hash_file(p) for p in weights}])


def load_pipeline(directory: RunDirectory, device: str) -> TranslationPipeline:
    """Load a run's pipeline, its networks on a device.

    Raises
    ------
    RunError
        If there is none, or it is damaged.
    """
    from pileupgen.diffusion.pipeline import TranslationPipeline

    pipeline = TranslationPipeline.load(directory.model)
    move(pipeline, device)
    return pipeline


def move(pipeline: TranslationPipeline, device: str) -> None:
    """Move a pipeline's networks to a device; its calibration stays."""
    for network in (pipeline.autoencoder, pipeline.denoiser, pipeline.ratio):
        network.to(device)


def choose_device(device: str | None) -> str:
    """Give the device asked for, or CUDA, MPS, CPU in this order.

    Raises
    ------
    ConfigError
        If the device does not exist here.
    """
    import torch

    if device is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"Device '{device}' cannot be used: {first_line(error)}", "Try --device cpu."
        ) from error
    return device


def read_release_scan(directory: RunDirectory) -> ReleaseScan:
    """Read the release scan of a trained run.

    Raises
    ------
    RunError
        If there is none.
    UnreadableInputError
        If it is damaged.
    """
    from pileupgen.diffusion.release import ReleaseScan

    path = directory.model / "release.json"
    if not path.is_file():
        raise RunError(f"No release scan in {directory.model}.", "Run 'pileupgen train' first.")
    return ReleaseScan.read(path)
