"""Specification of a generated sample, as a data card's ``generate:`` holds it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from pileupgen.errors import MissingInputError, did_you_mean
from pileupgen.faults import StrictModel, parse_model
from pileupgen.run import fingerprint, hash_file, versions
from pileupgen.samples.mu_profile import read_mu_profile
from pileupgen.simulate.allotment import Multiplicity, pool_sizes
from pileupgen.simulate.generators import (
    DIJET_PT_MIN,
    GENERATORS,
    HARD_PROCESSES,
    JET_PROCESSES,
    PROCESS_ALIASES,
    generator_version,
    package,
    processes,
)
from pileupgen.simulate.response import Readout, ResponseCard, find_response, load_response
from pileupgen.simulate.shower_spec import SHOWER
from pileupgen.simulate.tunes import TUNES, Tune, parse_tune
from pileupgen.simulate.zdc_spec import ZDC

MONASH = 14
"""Pythia's ``Tune:pp`` where none is asked for (Skands et al., 1404.5630)."""

SAMPLE_VERSION = 2
"""Counts changes of the code that change the events of one and the same spec."""

PULSE_VERSION = 2
"""The same for what the readout sees of other crossings."""

_OF_RESPONSE = ("response", "readout", "period")
"""Fields that say which response card is meant; events depend on what it holds."""


class SampleSpec(StrictModel):
    """A sample of events in a calorimeter: generator, hard scatter, pileup, detector, seed.

    Where ``process`` is a hard scatter, each event has one of its own, and pileup of inelastic
    interactions if ``mu`` or ``mu_profile`` is given.

    With ``separate_pools`` events of different pools have no interaction in common, and
    preprocessing puts all events of a pool into one split. The number of interactions that are made
    follows from ``n_events`` and μ, so that an event then depends on ``n_events``, too. Files with
    fewer are refused, with the uses that would do.

    Samples that differ in ``response`` alone hold the same interactions event by event, seen by
    two detectors with electronic and shower fluctuations of their own. For independent samples
    give different seeds.
    """

    generator: str = Field(
        default="pythia8", description="pythia8, or a model of chromo: sibyll, epos, …"
    )
    process: str = Field(
        default="inelastic",
        description="pileup: inelastic, nondiffractive, nsd, all; hard: dijet, ttbar, zee, zmumu",
    )
    pt_min: float | None = Field(
        default=None, gt=0, description="GeV, least p_T of the partons of dijet"
    )
    minimum_bias: tuple[str, ...] = Field(
        default=(), description="files with the interactions of pileup, in place of a generator"
    )
    hard_scatter: tuple[str, ...] = Field(
        default=(), description="files with a hard scatter for each event, in place of process"
    )
    tune: Tune | None = Field(
        default=None, description="Pythia 8's Tune:pp: 14 Monash, 21 A14; or ET7, fitted"
    )
    sqrt_s: float = Field(default=13_600.0, ge=100, le=1e6, description="GeV, proton on proton")
    pool_size: int = Field(
        default=12_000, ge=1, description="minimum-bias interactions to draw from"
    )
    separate_pools: tuple[tuple[float, float], ...] | None = Field(
        default=None,
        description="[part of the events, uses of an interaction] of each pool; for pool_size",
    )
    n_events: int = Field(default=4000, ge=1)
    mu: float = Field(
        default=60.0, ge=0, le=1000, description="mean number of interactions per event"
    )
    mu_profile: tuple[tuple[float, float], ...] | None = Field(
        default=None, description="[mu, probability] pairs, or a two-column text file; replaces mu"
    )
    mu_spread: Literal["poisson", "fixed"] = Field(
        default="poisson", description="number of interactions: Poisson around mu, or mu itself"
    )
    filling: str | None = Field(
        default=None,
        pattern=r"^(\d{1,4}[be]){1,40}$",
        description="filled (b) and empty (e) crossings, repeated: 48b7e; none: all are filled",
    )
    consecutive: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="crossings in a row that the readout is kept of, filled or not; then others",
    )
    mirror_eta: bool = Field(
        default=False, description="mirror each interaction in η with probability ½"
    )
    response: str = Field(default="mc", description="a shipped response card, or a path to one")
    readout: Readout = Field(
        default="card",
        description="card: as the response says; unsuppressed; noiseless: without noise, too",
    )
    period: str | None = Field(
        default=None,
        min_length=1,
        description="period of the response card; none: of each event one, by their parts",
    )
    seed: int = Field(default=1, ge=0, lt=2**63)

    @field_validator("generator")
    @classmethod
    def _known_generator(cls, value: str) -> str:
        name = value.strip().lower()
        if name not in GENERATORS:
            raise ValueError(f"no generator '{value}'. {did_you_mean(name, GENERATORS)}")
        return name

    @field_validator("process")
    @classmethod
    def _plain_process(cls, value: str) -> str:
        name = value.strip().lower().removeprefix("softqcd:")
        return PROCESS_ALIASES.get(name, name)

    @field_validator("tune", mode="before")
    @classmethod
    def _known_tune(cls, value: object) -> object:
        found = parse_tune(value)
        if isinstance(found, int) and found < 0:
            raise ValueError("tunes of Pythia are numbered from 0")
        return found

    @field_validator("mu_profile", mode="before")
    @classmethod
    def _read_profile(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str | Path):
            return read_mu_profile(_near(Path(value), info))
        return value

    @field_validator("mu_profile")
    @classmethod
    def _usable_profile(
        cls, value: tuple[tuple[float, float], ...] | None
    ) -> tuple[tuple[float, float], ...] | None:
        if value is None:
            return None
        mu, probability = np.array(value, dtype=float).reshape(-1, 2).T
        if len(mu) == 0 or np.any(mu < 0) or np.any(mu > 1000):
            raise ValueError("needs at least one [mu, probability], mu within 0 … 1000")
        if np.any(probability < 0) or probability.sum() <= 0:
            raise ValueError("probabilities must not be negative, and not all zero")
        return value

    @field_validator("separate_pools")
    @classmethod
    def _usable_pools(
        cls, value: tuple[tuple[float, float], ...] | None
    ) -> tuple[tuple[float, float], ...] | None:
        if value is None:
            return None
        parts = [part for part, _ in value]
        if not parts or min(parts) <= 0 or abs(sum(parts) - 1) > 1e-6:
            raise ValueError("parts of the events must be positive and sum to 1")
        if any(not 1 <= uses <= 1e6 for _, uses in value):
            raise ValueError("an interaction is used at least once")
        return value

    @field_validator("minimum_bias", "hard_scatter", mode="before")
    @classmethod
    def _find_particles(cls, value: object, info: ValidationInfo) -> object:
        names = (value,) if isinstance(value, str | Path) else value
        if not isinstance(names, list | tuple):
            return value
        return tuple(str(_near(Path(str(name)), info)) for name in names)

    @field_validator("response", mode="before")
    @classmethod
    def _find_response(cls, value: object, info: ValidationInfo) -> object:
        return find_response(value, _folder(info)) if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            made = dict(values)
            generator = str(made.get("generator", "pythia8")).strip().lower()
            if generator == "pythia8" and made.get("tune") is None:
                made["tune"] = MONASH
            process = str(made.get("process", "")).strip().lower()
            is_hard = process in HARD_PROCESSES or bool(made.get("hard_scatter"))
            if is_hard and made.get("mu_profile") is None and not made.get("minimum_bias"):
                # A hard scatter comes without pileup, which is for the overlay to add.
                made.setdefault("mu", 0.0)
            if process == "dijet" and made.get("pt_min") is None:
                made["pt_min"] = DIJET_PT_MIN
            if made.get("separate_pools") is not None and made.get("pool_size") is not None:
                raise ValueError("give pool_size or separate_pools, not both")
            return made
        return values

    @model_validator(mode="after")
    def _fits_generator(self) -> SampleSpec:
        if self.generator != "pythia8" and self.tune is not None:
            raise ValueError(f"tune is a setting of pythia8, not of {self.generator}")
        offered = processes(self.generator)
        hard = tuple(HARD_PROCESSES) if self.generator == "pythia8" else ()
        elsewhere = (*JET_PROCESSES, SHOWER, ZDC) if self.generator == "pythia8" else ()
        if self.process not in (*offered, *hard):
            raise ValueError(
                f"{self.generator} has no process '{self.process}'. "
                f"{did_you_mean(self.process, (*offered, *hard, *elsewhere))}"
            )
        if self.hard_scatter and self.process in hard:
            raise ValueError(f"hard_scatter and process {self.process} are both hard scatters")
        if not self.bunches.any():
            raise ValueError("filling: no crossing is filled")
        if self.consecutive > 1 and self.is_hard:
            raise ValueError("consecutive: crossings in a row cannot each have a hard scatter")
        if self.consecutive > 1 and self.separate_pools is not None:
            raise ValueError(
                "consecutive: crossings in a row have interactions in common, whatever pools they "
                "are from; give pool_size in place of separate_pools"
            )
        if self.separate_pools is not None and not self.has_pileup:
            raise ValueError("separate_pools: there is no pileup; give mu, or leave them out")
        if self.pt_min is not None and self.process != "dijet":
            raise ValueError(f"pt_min is a setting of dijet, not of {self.process}")
        return self

    @property
    def bunches(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each crossing of the filling scheme is filled, for one turn of it."""
        runs = re.findall(r"(\d+)([be])", self.filling or "1b")
        return np.repeat([kind == "b" for _, kind in runs], [int(n) for n, _ in runs])

    @property
    def multiplicity(self) -> Multiplicity:
        """The law of the number of interactions of an event."""
        profile = self.mu_profile or ((self.mu, 1.0),)
        return Multiplicity.of(self.seed, profile, is_poisson=self.mu_spread == "poisson")

    @property
    def is_hard(self) -> bool:
        """Whether each event has a hard scatter."""
        return self.process in HARD_PROCESSES or bool(self.hard_scatter)

    @property
    def has_pileup(self) -> bool:
        """Whether there is a pool of minimum-bias interactions."""
        return not self.is_hard or self.mu > 0 or self.mu_profile is not None

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of particles that a pool is read from; none where it is generated."""
        return tuple(Path(name) for name in self.hard_scatter or self.minimum_bias)

    @property
    def uses_generator(self) -> bool:
        """Whether any of the pools is generated."""
        return any(not pool.files for pool in self.pools().values())

    def pools(self) -> dict[str, SampleSpec]:
        """Specs of the pools that the events are made of, ``pileup`` and ``hard``."""
        soft: dict[str, Any] = {}
        if self.separate_pools is not None:
            # One file holds them all, one after the other.
            sizes = pool_sizes(self.separate_pools, self.multiplicity.counts(self.n_events))
            soft["pool_size"] = sum(sizes)
        if not self.is_hard:
            return {"pileup": self.model_copy(update=soft)}
        hard = self.model_copy(update={"pool_size": self.n_events, "minimum_bias": ()})
        if not self.has_pileup:
            return {"hard": hard}
        soft |= {"process": "inelastic", "pt_min": None, "hard_scatter": ()}
        return {"hard": hard, "pileup": self.model_copy(update=soft)}

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str, folder: Path | None = None) -> SampleSpec:
        """Check a mapping, such as a card's ``generate:``.

        Parameters
        ----------
        values : mapping
            Field names and values; what is left out takes the default.
        where : str
            Begins every message. If it is a file, paths in ``values`` are also looked for beside
            it.

        Raises
        ------
        CardError
            Naming every fault and, for an unknown key, the nearest known one.
        """
        if folder is None and Path(where).is_file():
            folder = Path(where).parent
        return parse_model(cls, dict(values), where, context={"folder": folder})

    def load_response(self) -> ResponseCard:
        """Read the response card, as it is read out.

        Raises
        ------
        CardError
            If the response card is malformed, or has no such period.
        """
        card = load_response(self.response).read_out(self.readout)
        return card if self.period is None else card.in_period(self.period)

    @property
    def _unset(self) -> set[str]:
        """Fields that say nothing: samples made before there were any keep their fingerprints."""
        fields = ("pt_min", "filling", "consecutive", "minimum_bias", "hard_scatter")
        defaults = SampleSpec.model_fields
        names = (*fields, "separate_pools")
        return {name for name in names if getattr(self, name) == defaults[name].default}

    def _tune_values(self) -> dict[str, Any]:
        """What a tune's name stands for; nothing for Pythia's own, whose number says it."""
        return {"tune_values": TUNES[self.tune].to_dict()} if isinstance(self.tune, str) else {}

    def _hashes(self) -> dict[str, list[str]]:
        """Hashes of the files of particles, by field; where they lie does not matter."""
        names = {"minimum_bias": self.minimum_bias, "hard_scatter": self.hard_scatter}
        return {
            field: [_hash(Path(file)) for file in files] for field, files in names.items() if files
        }

    def fingerprint(self) -> str:
        """16 hex digits of all that the events depend on: values, response card, versions."""
        response = self.load_response()
        sees_others = response.crossings != (0, 0)
        return fingerprint(
            {
                **({"pulse_version": PULSE_VERSION} if sees_others else {}),
                **self._tune_values(),
                **self.model_dump(mode="json", exclude={*_OF_RESPONSE, *self._unset}),
                **self._hashes(),
                "response": response.fingerprint(),
                "sample_version": SAMPLE_VERSION,
                "versions": versions(*self.packages),
            }
        )

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions that the particles depend on."""
        return (package(self.generator),) if self.uses_generator else ()

    def pool_fingerprint(self) -> str:
        """16 hex digits of all that the minimum-bias pool depends on."""
        fields = {"generator", "process", "tune", "sqrt_s", "pool_size", "seed", "pt_min"}
        fields -= self._unset
        if self.files:
            return fingerprint({**self._hashes(), "pool_size": self.pool_size})
        return fingerprint(
            {
                **self._tune_values(),
                **self.model_dump(mode="json", include=fields),
                "sample_version": SAMPLE_VERSION,
                "version": generator_version(self.generator),
            }
        )


def _hash(path: Path) -> str:
    if not path.is_file():
        raise MissingInputError(f"No file of particles {path}.", "Correct its name.")
    return hash_file(path)


def _folder(info: ValidationInfo) -> Path | None:
    return (info.context or {}).get("folder")


def _near(path: Path, info: ValidationInfo) -> Path:
    folder = _folder(info)
    beside = folder / path if folder is not None else path
    return beside if not path.is_file() and beside.is_file() else path
