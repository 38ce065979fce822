"""How to translate: the one settings class of a translation.

The ``translate`` section of the config, the options of the command, the operating point that a scan
recommends and the provenance of a translated store are all derived from the fields below. The
object itself goes from the command to the networks. Nothing here loads torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal, get_args

from pileupgen.errors import ConfigError
from pileupgen.fields import SECTION, option_name, setting, settings_of

Mode = Literal["partial", "invert", "invert+sde", "generate", "transport", "calibrate"]
Sampler = Literal["ancestral", "ddim", "dpmsolver++", "sde-dpmsolver++"]
GuidanceKind = Literal["classifier-free", "closed-form", "ratio", "classifier"]
WeightSchedule = Literal["constant", "linear", "cosine"]
Release = Literal["common", "per-event"]
RatioCriterion = Literal["auc", "ess", "spread"]
"""What the ratio classifier says of noised events."""
ReleaseBy = Literal["fidelity", "auc", "ess", "spread"]
Decode = Literal["mean", "sample"]
OutOfRange = Literal["limited", "allow", "refuse"]
CorrectionKind = Literal["auto", "correlations", "marginals"]
UNRELEASED: tuple[Mode, ...] = ("generate", "transport", "calibrate")
"""Modes that release no event at a noise level."""
WITHOUT_NETWORK: tuple[Mode, ...] = ("transport", "calibrate")
"""Modes without diffusion."""
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
LOG_WEIGHT_LIMIT = 5.0
MICRO_BATCH = 50
"""Events that go through a network at once."""
PER_EVENT_TIMES = 20
"""Release times that a per-event release chooses from, even in t."""
PER_EVENT_TOLERANCE = 0.2
"""Default of |ln r| at a per-event release."""
CLEAN = -1
"""The timestep of the clean latents, one below the first noised one."""
_POINT: dict[str, Any] = {"in_point": True}
"""Marks a setting of the operating point, which a scan recommends."""


def timesteps_between(t_release: int, num_inference_steps: int) -> list[int]:
    """Descending timesteps from ``t_release`` to the clean end, as even as integers allow.

    >>> timesteps_between(300, 4)
    [300, 225, 150, 74, -1]
    >>> timesteps_between(2, 50)
    [2, 1, 0, -1]
    """
    import numpy as np

    grid = np.rint(np.linspace(t_release, CLEAN, num_inference_steps + 1)).astype(int)
    return [int(t) for t in dict.fromkeys(grid.tolist())]


def is_stochastic(sampler: Sampler, eta: float = 0.0) -> bool:
    """Whether a sampler adds noise while it denoises."""
    return sampler in ("ancestral", "sde-dpmsolver++") or (sampler == "ddim" and eta > 0)


@dataclass(frozen=True)
class Settings:
    """How to translate."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SECTION

    mode: Mode = setting(
        "partial",
        "partial: noise to t_release, switch the class, denoise; invert: deterministic inversion "
        "and decoding; invert+sde: inversion, then decoding by the sampler; generate: from noise; "
        "transport: a linear map of correlations, no diffusion; calibrate: quantile morphing alone",
        **_POINT,
    )
    """``partial``: noise to t_release, switch the class, denoise. ``invert``: deterministic
    inversion to t_release as mc, then deterministic decoding as data (DDIB, Su et al. 2203.08382).
    ``invert+sde``: the same inversion, then decoding by ``sampler``. ``generate``: from pure noise.
    ``transport``: no diffusion, but the optimal linear map between the Gaussian fields of the
    denoiser's closed form, :meth:`StationaryField.move`. ``calibrate``: neither, quantile morphing
    alone."""
    t_release: int | Literal["auto"] = setting(
        300, "timestep of the release, or auto", metavar="T", example="300", **_POINT
    )
    """Timestep of the release, 0 … T − 1; 0 leaves the latents as they are. With a per-event
    release the latest one. ``auto`` stands for what the model's release scan chooses; see
    :meth:`released_at`; or, by fidelity, for what measured translations say."""
    w: float = setting(
        2.0, "strength of guidance, 0: none; diffusers' guidance_scale is w + 1", ge=0, **_POINT
    )
    """Guidance of the decoding; 0 is off."""
    num_inference_steps: int = setting(
        15,
        "network evaluations from the release to the clean end",
        option="--steps",
        ge=1,
        **_POINT,
    )
    """Network evaluations from the release to the clean end (guidance in two passes doubles them,
    inversion adds as many)."""
    sampler: Sampler = setting("dpmsolver++", "solver of the reverse diffusion", **_POINT)
    """See :func:`pileupgen.diffusion.solvers.solve`. Inversion and ``invert``'s decoding are
    deterministic: they take ``ddim`` with η = 0 where that is chosen, else ``dpmsolver++``.
    ``invert+sde`` decodes with the stochastic form of ``dpmsolver++``."""
    eta: float = setting(
        0.0, "noise of the sampler ddim, from 0 (none) to 1 (full)", ge=0, le=1, **_POINT
    )
    """DDIM's η in [0, 1]; for other samplers without effect."""
    guidance: GuidanceKind = setting(
        "closed-form",
        "noise with guidance: ε + w(ε − ε of no class), the same with the difference of closed "
        "forms in one pass, ε + w(ε − ε of mc), or ε − wσ∇ ln r with the ratio network",
        **_POINT,
    )
    """``classifier-free``: ε_data + w(ε_data − ε_∅); ``closed-form``: the same with the difference
    of the closed forms alone, in one network pass; ``ratio``: ε_data + w(ε_data − ε_mc);
    ``classifier``: ε_data − w σ ∇ ln r of the ratio network."""
    guidance_interval: tuple[int, int] | None = setting(
        None, "guide only at timesteps lo ≤ t ≤ hi", metavar="LO,HI", example="50,400", **_POINT
    )
    """Guide only at timesteps lo ≤ t ≤ hi (Kynkäänniemi et al. 2404.07724)."""
    guidance_schedule: WeightSchedule = setting(
        "constant", "course of w over the decoding: constant, or rising from 0 to 2w", **_POINT
    )
    """w over the decoding, see :class:`pileupgen.diffusion.guidance.Strength`."""
    release: Release = setting(
        "common",
        "release all events at t_release, or each at the first time up to it where its own |ln r| "
        "is within the tolerance",
        **_POINT,
    )
    """``common``: all at t_release. ``per-event``: each event at the first of some twenty even
    times up to t_release where its own ``|ln r(x_t, t)|`` ≤ ``release_tolerance``."""
    release_by: ReleaseBy = setting(
        "fidelity",
        "what t_release auto judges by: W1/σ and source correlation of translated validation "
        "events, or AUC, ESS or spread of the ratio classifier at the release",
        **_POINT,
    )
    """What an automatic release judges by."""
    tolerance: float | None = setting(
        None,
        "for t_release auto: source correlation of blocks (0.9) and ess (0.95) at least, auc "
        "(0.55) and spread (0.2) at most; for a per-event release: |ln r| (0.2) at most",
        gt=0,
        **_POINT,
    )
    """Tolerance of ``release_by`` where t_release is ``auto``, else of a per-event ``|ln r|``."""
    calibrate_after: bool = setting(
        True, "correct what differs in translated training events, after decoding"
    )
    """Whether what translated training events lack is corrected after the decode."""
    correction: CorrectionKind = setting(
        "auto",
        "what the calibration after the decode corrects: marginals, or correlations of cells too; "
        "auto: marginals, since a map of correlations undoes what guidance and release do",
    )
    """What is corrected: ``marginals``, or ``correlations`` too; see
    :class:`~pileupgen.models.correction.correlations.FieldCorrection`. ``auto``: marginals. A map
    of correlations fitted on translated events undoes what the network, the release and guidance do
    to them."""
    n_correction_events: int = setting(
        600,
        "training events that the correction is fitted on",
        option="--correction-events",
        ge=10,
    )
    """Training events that the correction is fitted on."""
    decode: Decode = setting(
        "mean", "take the mean of the learned decoder's density of a score, or draw from it"
    )
    """Scores are the ``mean`` of the learned decoder's density or a ``sample`` of it; a lossless
    codec knows no difference."""
    log_weight_limit: float = setting(
        LOG_WEIGHT_LIMIT,
        "limit L of ln r: weights r are clipped to between e^-L and e^L",
        option="--weight-limit",
        gt=0,
    )
    """Limit L of ln r: weights r are clipped to between e^-L and e^L."""
    n_draws: int = setting(
        1, "translations of each event; draw 0 is the plain one", option="--draws", ge=1
    )
    """Translations of each event, with random numbers of their own."""
    timesteps: tuple[int, ...] | None = setting(
        None,
        "timesteps of the network evaluations, descending from t_release, in place of "
        "num_inference_steps even ones",
        metavar="T,T,…",
        example="300,200,100,40,10",
        **_POINT,
    )
    """Timesteps of the network evaluations, descending from ``t_release`` (``generate``: from T −
    1), the clean end left out; in place of ``num_inference_steps`` even ones. Inversion takes them
    upwards."""
    batch_size: int = setting(
        500, "events held in memory; does not change results", ge=1, is_operational=True
    )
    """Source events held in memory; changes no result."""
    micro_batch: int = setting(
        MICRO_BATCH,
        "events in one call of a network: large on a GPU, small for quick answers on few events; "
        "the last bits of an event depend on it",
        ge=1,
    )
    """Events that go through a network at once, always: fewer are filled up, so that the kernels
    chosen, and with them the last bits of an event, do not depend on how many share its batch.
    Another value gives other last bits; large ones fill GPUs, small ones answer sooner."""
    fresh_noise: float = setting(
        1.0,
        "share of the noise variance at a partial release that is drawn at random; the rest comes "
        "from the inversion of the event, which preserves more of it",
        ge=0,
        le=1,
        **_POINT,
    )
    """Share of σ² at the release that is drawn, in the mode ``partial``. The event is inverted as
    far as α_i = α / (1 − ``fresh_noise`` σ²)^(1/2) and noised forward from there, so that what is
    released has the density of noised events for any share; 1 noises clean events, 0 inverts."""
    map_scale: bool = setting(
        False,
        "map the common scale of events in closed form before the release, which leaves nearly all "
        "of the source's spread there",
        **_POINT,
    )
    """Map modes with α²λ ≥ 4 σ² at the release, such as the energy of an event as a whole, by their
    optimal linear map first; see :class:`~pileupgen.models.common_modes.CommonModes`. A release
    removes a fifth at most of what differs in these."""
    out_of_range: OutOfRange = setting(
        "limited",
        "treatment of events outside the training's range in energy or μ: limited refuses those "
        "far outside, refuse refuses any, allow refuses none",
        is_operational=True,
    )
    """Events outside the training's range: ``limited`` refuses cells above 1,000 times the largest
    of their ring, μ outside by a factor of 4, and events with a fifth of their energy below the
    threshold; ``refuse`` refuses all that lie outside; ``allow`` refuses none."""
    exact: bool = setting(
        False,
        "use the solver with all its evaluations, even if a student was distilled for these "
        "settings",
        is_operational=True,
    )
    """Off, a student that was distilled for these settings takes the place of the solver."""
    network: bool = setting(
        True, "add the denoiser's network to its closed form; off for comparisons", option=None
    )
    """Off, the Gaussian fields alone translate. This and the next two are for comparisons by
    ``validate --ladder``."""
    switch_class: bool = setting(True, "denoise events as the target", option=None)
    """Off, events are denoised as what they are, without guidance."""
    self_conditioning: bool = setting(True, "feed x̃_0 back from step to step", option=None)

    @property
    def release_timestep(self) -> int:
        """The timestep of the release.

        Raises
        ------
        ConfigError
            If it is still to be chosen.
        """
        if isinstance(self.t_release, str):
            raise ConfigError(
                "t_release is 'auto' and no release scan has chosen a timestep yet.",
                "Give a timestep, or take that of ReleaseScan.choose by Settings.released_at.",
            )
        return self.t_release

    @property
    def release_tolerance(self) -> float:
        """|ln r| at most at a per-event release."""
        return PER_EVENT_TOLERANCE if self.tolerance is None else self.tolerance

    @property
    def corrects(self) -> bool:
        """Whether scores are corrected after the decode."""
        return self.calibrate_after and self.mode != "calibrate"

    @property
    def inverts(self) -> bool:
        """Whether events are inverted, not noised."""
        return self.mode in ("invert", "invert+sde")

    @property
    def corrects_correlations(self) -> bool:
        """Whether the calibration after the decode corrects more than marginals."""
        return self.correction == "correlations"

    @property
    def inversion_sampler(self) -> Sampler:
        """The deterministic solver of the inversion."""
        return "ddim" if self.sampler == "ddim" and self.eta == 0 else "dpmsolver++"

    @property
    def decoding_sampler(self) -> Sampler:
        """The solver of the decoding."""
        if self.mode == "invert+sde" and self.sampler == "dpmsolver++":
            return "sde-dpmsolver++"
        return self.inversion_sampler if self.mode == "invert" else self.sampler

    @property
    def n_evaluations(self) -> int:
        """Network evaluations an event takes."""
        if self.mode in WITHOUT_NETWORK or not self.network:
            return 0
        if self.release_timestep == 0 and self.mode != "generate":
            return 0
        n = self.num_inference_steps if self.timesteps is None else len(self.timesteps)
        has_passes = self.guidance in ("classifier-free", "ratio") and self.switch_class
        is_inverted = self.inverts or (self.mode == "partial" and self.fresh_noise < 1)
        return n * (1 + (has_passes and self.w > 0) + is_inverted)

    @property
    def is_deterministic(self) -> bool:
        """Whether source event and noise at the release fix what becomes of an event."""
        return (
            self.mode in ("partial", "invert")
            and self.release == "common"
            and self.release_timestep > 0
            and not is_stochastic(self.decoding_sampler, self.eta)
            and self.network
            and self.switch_class
            and self.self_conditioning
        )

    def solver_settings(self) -> dict[str, Any]:
        """What the result of a deterministic translation depends on, as plain values.

        >>> inverted = Settings("invert", 300, num_inference_steps=8, fresh_noise=0.5)
        >>> plain = Settings("invert", 300, num_inference_steps=8)
        >>> inverted.solver_settings() == plain.solver_settings()
        True
        """
        guided = (self.guidance, self.guidance_interval, self.guidance_schedule) if self.w else ()
        values = {
            "mode": self.mode,
            "timesteps": self.decoding_timesteps(self.release_timestep),
            "sampler": self.decoding_sampler,
            "w": self.w,
            "guided": guided,
            "fresh_noise": 0.0 if self.inverts else self.fresh_noise,
            # Left out where it is off, so that students distilled without this setting still fit.
            **({"map_scale": True} if self.map_scale else {}),
        }
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain

    def decoding_timesteps(self, t_start: int) -> list[int]:
        """Descending timesteps from where the decoding starts to the clean end, −1."""
        if self.timesteps is not None:
            return [*self.timesteps, CLEAN]
        return timesteps_between(t_start, self.num_inference_steps)

    def release_times(self) -> list[int]:
        """Times that a per-event release chooses from, ascending, the last being t_release."""
        last = self.release_timestep
        n = min(PER_EVENT_TIMES, last)
        return sorted({round(last * (i + 1) / n) for i in range(n)}) if n else [0]

    def at(self, t_release: int) -> Settings:
        """The same with a common release at another time."""
        return replace(self, release="common", t_release=t_release)

    def released_at(self, t_release: int) -> Settings:
        """The same with an automatic release chosen; the tolerance was the choice's."""
        return replace(self, t_release=t_release, tolerance=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    def provenance(self) -> dict[str, Any]:
        """Settings that the translated events depend on, as plain values.

        >>> "batch_size" in Settings().provenance()
        False
        """
        values = {k: v for k, v in self.to_dict().items() if k not in OPERATIONAL}
        return {**values, "calibrate_after": self.corrects}

    def operating_point(self) -> dict[str, Any]:
        """Settings of the operating point, as plain values."""
        return {key: value for key, value in self.to_dict().items() if key in OPERATING_POINT}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Inverse of :meth:`to_dict` and of :meth:`provenance`; other keys are left out.

        >>> Settings.from_dict({"mode": "invert", "seed": 1}).mode
        'invert'
        """
        known = {one.name for one in fields(cls)} & values.keys()
        return cls(**{key: _frozen(values[key]) for key in known})

    def describe(self) -> str:
        """Settings in a few words.

        >>> Settings("partial", 300, 2.0, 10, "ddim", eta=0.5).describe()
        'partial, t = 300, w = 2, 10 steps, ddim η = 0.5'
        >>> Settings(guidance="ratio", guidance_schedule="cosine").describe()
        'partial, t = 300, w = 2 (ratio), 15 steps, dpmsolver++, --guidance-schedule cosine'
        >>> Settings("invert", fresh_noise=0.08).describe()
        'invert, t = 300, w = 2, 15 steps'
        """
        if self.mode in WITHOUT_NETWORK:
            return self.mode
        parts = [self.mode] if self.mode == "generate" else [self.mode, f"t = {self.t_release}"]
        kind = "" if self.guidance == "closed-form" or not self.w else f" ({self.guidance})"
        steps = f"{self.num_inference_steps} steps"
        if self.timesteps:
            steps = f"timesteps {','.join(map(str, self.timesteps))}"
        parts += [f"w = {self.w:g}{kind}", steps]
        if self.mode != "invert":
            noise = f" η = {self.eta:g}" if self.sampler == "ddim" else ""
            parts.append(self.sampler + noise)
        # Whatever else is not as by default, so that a new setting is told too.
        rest = [one for one in fields(self) if one.name in OPERATING_POINT - _DESCRIBED]
        given = [one for one in rest if getattr(self, one.name) != one.default]
        if self.mode != "partial":
            given = [one for one in given if one.name != "fresh_noise"]
        return ", ".join([*parts, *(f"{option_name(one)} {self._text(one.name)}" for one in given)])

    def _text(self, name: str) -> str:
        value = getattr(self, name)
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    def check(self, num_train_timesteps: int) -> None:
        """Refuse what makes no sense, or what a model with T timesteps cannot follow.

        Raises
        ------
        ConfigError
            Naming the setting.
        """
        from pileupgen.diffusion.settings_check import check_settings

        check_settings(self, num_train_timesteps)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


OPERATING_POINT = frozenset(
    one.name for one in settings_of(Settings) if one.metadata.get("in_point")
)
"""Settings of an operating point, any of which, given as an option, replaces it."""
OPERATIONAL = frozenset(
    one.name for one in settings_of(Settings) if one.metadata.get("is_operational")
)
"""Settings that change no result."""
_DESCRIBED = frozenset(
    ("mode", "t_release", "w", "num_inference_steps", "timesteps", "sampler", "eta", "guidance")
)
"""Settings that :meth:`Settings.describe` has words of its own for."""
