"""Every setting, typed and strict.

A config is a YAML file with the sections below; what it leaves out takes the default. An unknown
key is an error that names the nearest known one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, model_validator

from pileupgen.compare.settings import ComparisonSettings
from pileupgen.diffusion.settings import Settings as TranslateSettings
from pileupgen.errors import ConfigError
from pileupgen.faults import StrictModel, parse_model, read_yaml

FEATURES = "features"
"""Geometry of feature tables."""
FEATURE_DEFAULTS: dict[str, Any] = {
    "preprocess": {"zero_suppression": 0.0},
    # No feature is the layer behind another: their correlations are left to the diffusion.
    "calibration": {"n_layer_bins": 1},
    # Latents are the features' scores themselves.
    "codec": "cells",
    "autoencoder": {"patch": [1, 1], "latent_channels": None, "n_heads": 0},
}
"""Settings that a table of features takes where the config says nothing."""


class SampleConfig(StrictModel):
    """Which data cards make up the two domains."""

    mc: str = Field("demo_mc", description="card of the source domain: a name or a path")
    data: str = Field("demo_data", description="card of the target domain: a name or a path")


class PreprocessConfig(StrictModel):
    """Towers to images."""

    geometry: str | dict[str, Any] = Field(
        "atlas", description="preset name, a grid's numbers, or 'features' for feature tables"
    )
    zero_suppression: float | None = Field(
        None,
        ge=0,
        description="GeV; cells of smaller |E| become 0 in both domains alike; 0 is off; null "
        "takes that of the cards' format: 0.5 for towers of Delphes and CMS displays, else 0",
    )
    max_events: int | None = Field(None, ge=1, description="events per domain; null takes all")
    fractions: tuple[float, float, float] = Field(
        (0.6, 0.15, 0.25), description="train, validation, test"
    )
    allow: tuple[str, ...] = Field(
        (), description="names of checks of the samples whose findings are warnings, not errors"
    )

    @model_validator(mode="after")
    def _fractions_sum_to_one(self) -> PreprocessConfig:
        if abs(sum(self.fractions) - 1) > 1e-6 or min(self.fractions) <= 0:
            raise ValueError("fractions must be positive and sum to 1")
        return self

    @model_validator(mode="after")
    def _features_are_not_suppressed(self) -> PreprocessConfig:
        if self.geometry == FEATURES and self.zero_suppression:
            raise ValueError("zero_suppression is for cells; a table of features takes 0")
        return self


class CalibrationConfig(StrictModel):
    """Cells to what the networks see and back, by statistics of the training split."""

    space: Literal["gaussianised", "signed_log"] = Field(
        "gaussianised", description="quantiles of each domain; or one logarithm and hit bits"
    )
    n_knots: int = Field(256, ge=8, description="quantiles per ring, layer and condition bin")
    n_mu_bins: int = Field(3, ge=1, description="bins in μ; 1 is off")
    n_layer_bins: int = Field(8, ge=1, description="bins in the deeper layer's score; 1 is off")
    shared: bool = Field(
        False, description="one table for both domains: the diffusion has to do the calibration too"
    )
    before: bool = Field(
        True,
        description="mc is encoded with its own quantiles, which calibrates it before the release; "
        "else with those of data, and the networks have the whole shift to learn",
    )


class AutoencoderConfig(StrictModel):
    """Images to latents; the patch holds for either codec, the rest for the learned one."""

    patch: tuple[int, int] = Field(
        (2, 2), description="cells in η × φ that make one latent position"
    )
    latent_channels: int | None = Field(
        8, ge=1, description="layers × patch cells keeps all information, which null takes"
    )
    width: int = Field(32, ge=4, description="channels of the convolutions")
    n_blocks: int = Field(2, ge=0, description="residual blocks on each side")
    n_heads: int = Field(4, ge=0, description="heads of the global attention; 0 is none")
    coarse_conditioning: bool = Field(
        False, description="see block means of scores and latents, by cross-attention"
    )
    latent_noise: float = Field(0.1, ge=0, description="σ of the noise the decoder learns to bear")
    steps: int = Field(300, ge=0, description="training steps; 0 trains none")


class DenoiserConfig(StrictModel):
    """The latent denoiser."""

    kind: Literal["residual", "transformer", "local"] = Field(
        "residual",
        description="convolutions, attention over latent positions, or few channels on cells",
    )
    width: int = Field(96, ge=8, description="channels of a block")
    n_blocks: int = Field(4, ge=1, description="residual or attention blocks")
    n_heads: int = Field(4, ge=1, description="heads of the transformer")
    prediction_type: Literal["epsilon", "v_prediction"] = Field(
        "v_prediction", description="what the network predicts: the noise ε, or v = α ε − σ z"
    )
    coarse_conditioning: bool = Field(
        False, description="see block means of the source event, by cross-attention"
    )
    coarse_dropout: float = Field(
        0.3, ge=0, le=1, description="chance of no source in training, where there is one"
    )
    loss_weighting: Literal["none", "min_snr"] = Field(
        "none", description="min_snr: min(α²/σ², 5) ‖z − z̃‖², whatever is predicted"
    )
    label_dropout: float = Field(
        0.15, ge=0, lt=1, description="chance of the null label in training"
    )
    self_conditioning: float = Field(0.5, ge=0, le=1, description="chance per sample in training")
    focus: int | None = Field(
        None,
        ge=1,
        description="timestep up to which four of five training timesteps lie, where translations "
        "are released no later; null spreads them over all noise levels",
    )
    steps: int = Field(1500, ge=0, description="training steps")

    @model_validator(mode="after")
    def _local_has_no_source(self) -> DenoiserConfig:
        if self.kind == "local" and self.coarse_conditioning:
            raise ValueError("coarse_conditioning needs kind residual or transformer")
        return self


class RatioConfig(StrictModel):
    """The time-dependent density-ratio classifier."""

    width: int = Field(48, ge=4, description="channels of a block")
    n_blocks: int = Field(3, ge=1, description="residual blocks")
    steps: int = Field(600, ge=0, description="training steps")


class ScheduleConfig(StrictModel):
    """The noise schedule."""

    num_train_timesteps: int = Field(1000, ge=10, description="T; timesteps run from 0 to T − 1")
    power: Literal[1, 2] = Field(2, description="2: Nichol & Dhariwal; 1: the cosine not squared")
    s: float = Field(
        0.008, ge=0, lt=0.5, description="offset of the cosine, which keeps the first noise finite"
    )
    shift: float = Field(
        1.0, gt=0, description="divides the signal-to-noise ratio at every timestep by its square"
    )


class TrainingConfig(StrictModel):
    """The loop that all three networks share."""

    seed: int | None = Field(
        None,
        ge=0,
        description="of first weights, batches and noise; null: the run's, which the splits have",
    )
    batch_size: int = Field(64, ge=2, description="events of a step, over all processes")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="events a process holds at once, the gradients of its share being accumulated; "
        "null takes the share whole",
    )
    learning_rate: float = Field(1e-3, gt=0, description="largest learning rate of AdamW")
    weight_decay: float = Field(1e-2, ge=0, description="weight decay of AdamW")
    warmup: float = Field(
        0.05, ge=0, lt=1, description="fraction of the steps in which the learning rate rises"
    )
    ema_decay: float = Field(
        0.995,
        ge=0,
        lt=1,
        description="largest decay of the weights' moving average; the decay at step s is the "
        "smaller of it and 1 - (1 + s)^(-3/4), so that 0.995 counts from step 1,169 on, 0.998 from "
        "3,968 and 0.9999 from 215,443",
    )
    grad_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    mixed_precision: Literal["auto", "no", "bf16"] = Field(
        "auto",
        description="precision of the networks' products: single (no), bfloat16 (bf16), or "
        "bfloat16 where the device has instructions for it, without which it is much slower (auto)",
    )
    checkpoint_every: int = Field(250, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(
        2, ge=1, description="latest checkpoints that are kept, besides the best"
    )
    evaluate_every: int | None = Field(
        None, ge=1, description="steps between held-out losses; null: a sixth of the stage"
    )
    patience: int = Field(
        0, ge=0, description="evaluations without a lower held-out loss before stopping; 0 is off"
    )
    keep: Literal["best", "last"] = Field(
        "best", description="weights of the lowest held-out loss, or of the last step"
    )
    tensorboard: bool | None = Field(None, description="null: if it is installed")
    cache_latents: bool | Literal["auto"] = Field(
        "auto",
        description="encode the training events once, before the stages that need latents, "
        "instead of at every step; auto: where denoiser and ratio see twice as many events as "
        "that takes (latent_draws × events, again mirrored). Nothing to do for codec: cells",
    )
    latent_draws: int = Field(
        4, ge=1, description="cached latents of an event, with ranks of null cells of their own"
    )
    phi_roll: bool = Field(True, description="roll in φ by whole latent positions")
    eta_mirror: bool = Field(True, description="mirror in η where grid and detector allow it")


class DistillConfig(StrictModel):
    """The student that takes one evaluation in the place of the solver's many."""

    pairs: int = Field(3000, ge=100, description="translated training events that it learns from")
    steps: int = Field(6000, ge=0, description="training steps of the student")
    batch_size: int = Field(8, ge=2, description="pairs of a step, over all processes")
    learning_rate: float = Field(5e-3, gt=0, description="largest learning rate")
    width: int = Field(16, ge=8, description="channels of its convolutions")
    n_blocks: int = Field(5, ge=1, description="residual blocks")


class Config(StrictModel):
    """All settings of a run."""

    name: str = Field(
        "demo", min_length=1, pattern=r"^[\w.-]+$", description="run directory runs/<name>"
    )
    seed: int = Field(
        1,
        ge=0,
        description="seed of the splits and of every random choice without a seed of its own",
    )
    samples: SampleConfig = SampleConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    codec: Literal["latent", "cells"] = Field(
        "cells",
        description="patches of scores (cells), lossless, what to take on grids that a network can "
        "be trained on as they are; or a learned autoencoder (latent), for larger ones",
    )
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    ratio: RatioConfig = RatioConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    distill: DistillConfig = DistillConfig()
    translate: TranslateSettings = TranslateSettings()
    validate_: ComparisonSettings = Field(ComparisonSettings(), alias="validate")

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _features_have_defaults_of_their_own(cls, values: Any) -> Any:
        """Fill in what a table of features takes where the config says nothing."""
        if not isinstance(values, dict) or not isinstance(values.get("preprocess"), dict):
            return values
        if values["preprocess"].get("geometry") != FEATURES:
            return values
        filled = dict(values)
        for section, defaults in FEATURE_DEFAULTS.items():
            given = filled.setdefault(section, defaults)
            if isinstance(given, dict):
                filled[section] = {**defaults, **given}
        return filled

    @model_validator(mode="after")
    def _focus_is_a_timestep(self) -> Config:
        focus, n = self.denoiser.focus, self.schedule.num_train_timesteps
        if focus is not None and focus >= n - 1:
            raise ValueError(f"denoiser.focus {focus} is not one of the timesteps 1 … {n - 2}")
        return self

    @model_validator(mode="after")
    def _shared_tables_are_not_corrected(self) -> Config:
        if self.calibration.shared and self.translate.calibrate_after:
            raise ValueError(
                "calibration.shared takes translate.calibrate_after: false, since no domain's "
                "scores are Gaussian then"
            )
        return self

    @property
    def training_seed(self) -> int:
        """What first weights, batches and noise of the training follow from."""
        return self.seed if self.training.seed is None else self.training.seed

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are written to a run directory."""
        return self.model_dump(mode="json", by_alias=True)


def load_config(path: Path) -> Config:
    """Read and check a YAML config.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, or a value does not fit; all faults are named.
    """
    return parse_config(read_config(path), str(path))


def read_config(path: Path) -> Any:
    """Read a YAML config as plain values, unchecked.

    Raises
    ------
    ConfigError
        If the file is missing or is not YAML.
    """
    if not path.is_file():
        raise ConfigError(
            f"No config at {path}.", "Give --config a YAML file, see configs/demo.yaml."
        )
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}.") from error
    return {} if values is None else values


def parse_config(values: object, where: str) -> Config:
    """Check plain values against the schema.

    Raises
    ------
    ConfigError
        Naming every fault and the nearest known key.
    """
    return parse_model(Config, values, where, error=ConfigError)
