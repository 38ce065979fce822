"""How to translate."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from pileupgen.diffusion.guidance import GUIDANCES, SCHEDULES, GuidanceKind, WeightSchedule
from pileupgen.diffusion.solvers import (
    CLEAN,
    SAMPLERS,
    Sampler,
    is_stochastic,
    timesteps_between,
)
from pileupgen.errors import ConfigError, did_you_mean

Mode = Literal["partial", "invert", "invert+sde", "generate", "calibrate"]
MODES: tuple[Mode, ...] = ("partial", "invert", "invert+sde", "generate", "calibrate")
Release = Literal["common", "per-event"]
RELEASES: tuple[Release, ...] = ("common", "per-event")
Decode = Literal["mean", "sample"]
DECODES: tuple[Decode, ...] = ("mean", "sample")
CorrectionKind = Literal["auto", "correlations", "marginals"]
CORRECTIONS: tuple[CorrectionKind, ...] = ("auto", "correlations", "marginals")
LOG_WEIGHT_LIMIT = 5.0
MICRO_BATCH = 50
"""Events that go through a network at once."""
_TUPLES = ("guidance_interval", "timesteps")
PER_EVENT_TIMES = 20
"""Release times that a per-event release chooses from, even in t."""


@dataclass(frozen=True)
class Settings:
    """How to translate.

    Attributes
    ----------
    mode : str
        ``partial``: noise to t_release, switch the class, denoise. ``invert``: deterministic
        inversion to t_release as mc, then deterministic decoding as data (DDIB, Su et al.
        2203.08382). ``invert+sde``: the same inversion, then decoding by ``sampler``.
        ``generate``: from pure noise. ``calibrate``: no diffusion, quantile morphing alone.
    t_release : int
        Timestep of the release, 0 … T − 1; 0 leaves the latents as they are. With a per-event
        release the latest one.
    w : float
        Guidance of the decoding; 0 is off.
    num_inference_steps : int
        Network evaluations from the release to the clean end (guidance in two passes doubles
        them, inversion adds as many).
    sampler : str
        See :func:`pileupgen.diffusion.solvers.solve`. Inversion and ``invert``'s decoding are
        deterministic: they take ``ddim`` with η = 0 where that is chosen, else ``dpmsolver++``.
        ``invert+sde`` decodes with the stochastic form of ``dpmsolver++``.
    eta : float
        DDIM's η in [0, 1]; for other samplers without effect.
    guidance : str
        ``classifier-free``: ε_data + w(ε_data − ε_∅); ``closed-form``: the same with the
        difference of the closed forms alone, in one network pass; ``ratio``:
        ε_data + w(ε_data − ε_mc); ``classifier``: ε_data − w σ ∇ ln r of the ratio network.
    guidance_interval : (int, int) or None
        Guide only at timesteps lo ≤ t ≤ hi (Kynkäänniemi et al. 2404.07724).
    guidance_schedule : str
        w over the decoding, see :class:`pileupgen.diffusion.guidance.Strength`.
    release : str
        ``common``: all at t_release. ``per-event``: each event at the first of some twenty even
        times up to t_release where its own \\|ln r(x_t, t)\\| ≤ ``release_tolerance``.
    release_tolerance : float
        Of the per-event release.
    log_weight_limit : float
        Weights are clipped to e^∓ of this.
    timesteps : tuple of int or None
        Where the network is asked on the way down, descending from ``t_release`` (``generate``:
        from T − 1), the clean end left out; in place of ``num_inference_steps`` even ones.
        Inversion takes them upwards.
    decode : str
        Scores are the ``mean`` of the learned decoder's density or a ``sample`` of it; a lossless
        codec knows no difference.
    correction : str
        What the calibration after the decode corrects: ``marginals``, or ``correlations`` too; see
        :class:`~pileupgen.models.correction.correlations.FieldCorrection`. ``auto``: correlations
        unless events are inverted, since a release by noise leaves some of the source's
        correlations in them.
    micro_batch : int
        Events that go through a network at once, always: fewer are filled up, so that the kernels
        chosen, and with them the last bits of an event, do not depend on how many share its batch.
        Another value gives other last bits; large ones fill GPUs, small ones answer sooner.
    """

    mode: Mode = "partial"
    t_release: int = 300
    w: float = 2.0
    num_inference_steps: int = 15
    sampler: Sampler = "dpmsolver++"
    eta: float = 0.0
    guidance: GuidanceKind = "closed-form"
    guidance_interval: tuple[int, int] | None = None
    guidance_schedule: WeightSchedule = "constant"
    release: Release = "common"
    release_tolerance: float = 0.2
    log_weight_limit: float = LOG_WEIGHT_LIMIT
    decode: Decode = "mean"
    timesteps: tuple[int, ...] | None = None
    correction: CorrectionKind = "auto"
    micro_batch: int = MICRO_BATCH

    @property
    def inverts(self) -> bool:
        """Whether events are inverted, not noised."""
        return self.mode in ("invert", "invert+sde")

    @property
    def corrects_correlations(self) -> bool:
        """Whether the calibration after the decode corrects more than marginals."""
        return self.correction == "correlations" or (self.correction == "auto" and not self.inverts)

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
        if self.mode == "calibrate" or (self.t_release == 0 and self.mode != "generate"):
            return 0
        n = self.num_inference_steps if self.timesteps is None else len(self.timesteps)
        guided = self.w > 0 and self.guidance in ("classifier-free", "ratio")
        return n * (1 + guided + self.inverts)

    def way_down(self, t_start: int) -> list[int]:
        """Descending timesteps from where the decoding starts to the clean end, −1."""
        if self.timesteps is not None:
            return [*self.timesteps, CLEAN]
        return timesteps_between(t_start, self.num_inference_steps)

    def release_times(self) -> list[int]:
        """Times that a per-event release chooses from, ascending, the last being t_release."""
        n = min(PER_EVENT_TIMES, self.t_release)
        return sorted({round(self.t_release * (i + 1) / n) for i in range(n)}) if n else [0]

    def at(self, t_release: int) -> Settings:
        """The same with a common release at another time."""
        return replace(self, release="common", t_release=t_release)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        for name in _TUPLES:
            values[name] = None if values[name] is None else list(values[name])
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Inverse of :meth:`to_dict`."""
        tuples = {name: tuple(values[name]) for name in _TUPLES if values.get(name) is not None}
        return cls(**{**values, **tuples})

    def check(self, num_train_timesteps: int) -> None:
        """Refuse what makes no sense, or what a model with T timesteps cannot follow.

        Raises
        ------
        ConfigError
            Naming the setting.
        """
        _require_known("mode", self.mode, MODES)
        _require_known("sampler", self.sampler, SAMPLERS)
        _require_known("guidance", self.guidance, GUIDANCES)
        _require_known("guidance schedule", self.guidance_schedule, SCHEDULES)
        _require_known("release", self.release, RELEASES)
        _require_known("decode", self.decode, DECODES)
        _require_known("correction", self.correction, CORRECTIONS)
        last = num_train_timesteps - 1
        if not 0 <= self.t_release <= last:
            raise ConfigError(
                f"t_release {self.t_release} is outside 0 … {last}.",
                "Small values keep the event, large ones remove more of the difference.",
            )
        if self.num_inference_steps < 1 or self.w < 0 or not math.isfinite(self.w):
            raise ConfigError("steps must be at least 1 and w not negative.")
        if self.micro_batch < 1:
            raise ConfigError("micro_batch must be at least 1.")
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"η {self.eta} is outside 0 … 1.")
        if not (self.log_weight_limit > 0 and self.release_tolerance > 0):
            raise ConfigError("The weight limit and the tolerance of the release must be positive.")
        self._check_interval(last)
        self._check_timesteps(last)
        self._check_combination()

    def _check_interval(self, last: int) -> None:
        if self.guidance_interval is None:
            return
        low, high = self.guidance_interval
        if not 0 <= low <= high <= last:
            raise ConfigError(
                f"The guidance interval {low},{high} is not within 0,{last} and ascending.",
                "Give --guidance-interval two timesteps, as in 50,400.",
            )

    def _check_timesteps(self, last: int) -> None:
        steps = self.timesteps
        if steps is None or self.mode == "calibrate":
            return
        shown = ",".join(map(str, steps))
        descends = all(first > second for first, second in pairwise(steps))
        if not (steps and descends and min(steps) >= 0 and max(steps) <= last):
            raise ConfigError(
                f"The timesteps {shown} are not descending within {last} … 0.",
                "Give them from the release down, as in 300,200,100,40,10.",
            )
        if self.release == "per-event":
            raise ConfigError(
                "Explicit timesteps begin at one release, so they do not go with one per event.",
                "Leave out one of the two.",
            )
        start = last if self.mode == "generate" else self.t_release
        if steps[0] != start:
            raise ConfigError(
                f"The timesteps {shown} begin at {steps[0]}, the decoding at {start}.",
                f"Begin them with {start}, or release at {steps[0]}.",
            )

    def _check_combination(self) -> None:
        if self.mode == "invert+sde" and not is_stochastic(self.decoding_sampler, self.eta):
            raise ConfigError(
                f"Mode invert+sde with '{self.sampler}' and η = {self.eta:g} has no noise.",
                "Choose --sampler sde-dpmsolver++ or ancestral, or --mode invert.",
            )
        if self.release == "per-event" and self.mode != "partial":
            raise ConfigError(
                f"A per-event release goes with mode partial, not {self.mode}.",
                "Its ln r is that of the event noised to each time.",
            )


def _require_known(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"No {what} '{value}'.", did_you_mean(value, known))
