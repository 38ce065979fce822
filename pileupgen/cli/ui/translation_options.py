"""Options of translating, shared by `translate` and `scan`, and what becomes of them."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pileupgen.errors import ConfigError, RunError

if TYPE_CHECKING:
    from pileupgen.cli.ui.session import Session
    from pileupgen.run import RunDirectory

OPERATING_POINT = "operating_point.json"


class ModeChoice(enum.StrEnum):
    """How to translate."""

    PARTIAL = "partial"
    INVERT = "invert"
    INVERT_SDE = "invert+sde"
    GENERATE = "generate"
    TRANSPORT = "transport"
    CALIBRATE = "calibrate"


class GuidanceChoice(enum.StrEnum):
    """What guides the decoding."""

    CLASSIFIER_FREE = "classifier-free"
    CLOSED_FORM = "closed-form"
    RATIO = "ratio"
    CLASSIFIER = "classifier"


class CorrectionChoice(enum.StrEnum):
    """What the calibration after the decode corrects."""

    AUTO = "auto"
    CORRELATIONS = "correlations"
    MARGINALS = "marginals"


class OutOfRangeChoice(enum.StrEnum):
    """Which events outside the training's range are refused."""

    LIMITED = "limited"
    ALLOW = "allow"
    REFUSE = "refuse"


class ScheduleChoice(enum.StrEnum):
    """How w runs over the decoding."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


class ReleaseChoice(enum.StrEnum):
    """Whether all events are released at one time."""

    COMMON = "common"
    PER_EVENT = "per-event"


class ReleaseByChoice(enum.StrEnum):
    """What `--t-release auto` judges by."""

    FIDELITY = "fidelity"
    AUC = "auc"
    ESS = "ess"
    SPREAD = "spread"


def _option(*names: str, text: str, **limits: Any) -> Any:
    return typer.Option(*names, help=text, show_default=False, **limits)


GuidanceOption = Annotated[
    GuidanceChoice | None,
    _option(
        "--guidance",
        text="ε + w(ε − ε of no class), the same of closed forms in one pass, ε + w(ε − ε of mc), "
        "or ε − wσ∇ ln r of the ratio. "
        "(default: the config's)",
    ),
]
IntervalOption = Annotated[
    str | None,
    _option("--guidance-interval", text="Guide at timesteps LO,HI and between only."),
]
ScheduleOption = Annotated[
    ScheduleChoice | None,
    _option(
        "--guidance-schedule",
        text="w over the decoding: constant, or rising from 0 to 2w. (default: the config's)",
    ),
]
EtaOption = Annotated[
    float | None,
    _option("--eta", text="Noise of the sampler ddim: 0 none, 1 full.", min=0.0, max=1),
]
TimestepsOption = Annotated[
    str | None,
    _option(
        "--timesteps",
        metavar="T,T,…",
        text="Where the network is asked, descending from the release, in place of --steps even "
        "ones; the first is the release, unless --t-release says so too.",
    ),
]
CorrectionOption = Annotated[
    CorrectionChoice | None,
    _option(
        "--correction",
        text="What the calibration after the decode corrects: marginals, or correlations of cells "
        "too, which undoes what guidance and release do; auto: marginals. "
        "(default: the config's)",
    ),
]
FreshNoiseOption = Annotated[
    float | None,
    _option(
        "--fresh-noise",
        text="Share of the noise variance at a partial release that is drawn; the rest is the "
        "event's own, by inversion, which keeps the event. (default: the config's)",
        min=0.0,
        max=1.0,
    ),
]
OutOfRangeOption = Annotated[
    OutOfRangeChoice | None,
    _option(
        "--out-of-range",
        text="Events outside the training's range in energy or μ: limited refuses those far "
        "outside, refuse any, allow none. (default: the config's)",
    ),
]
AfterOption = Annotated[
    bool | None,
    typer.Option(
        "--calibrate-after/--no-calibrate-after",
        help="Correct what the decode left amiss. (default: the config's)",
        show_default=False,
    ),
]


def parse_timestep(text: str | None) -> int | str | None:
    """A timestep, ``auto`` or None.

    Raises
    ------
    ConfigError
        If it is none of them.
    """
    if text is None or text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"--t-release takes a timestep or 'auto', not '{text}'.", "Try --t-release 300."
        ) from None


def parse_interval(text: str | None) -> list[int] | None:
    """``lo,hi`` as two timesteps.

    Raises
    ------
    ConfigError
        If it is not two whole numbers.

    Examples
    --------
    >>> parse_interval("50,400")
    [50, 400]
    """
    if text is None:
        return None
    try:
        low, high = (int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--guidance-interval takes two timesteps, not '{text}'.",
            "Try --guidance-interval 50,400.",
        ) from None
    return [low, high]


def parse_timesteps(text: str | None, steps: int | None) -> list[int] | None:
    """``t,t,…`` as whole numbers.

    Parameters
    ----------
    text : str or None
    steps : int or None
        The number of even ones, where that is given.

    Raises
    ------
    ConfigError
        If they are not whole numbers, or the number of steps is given too.

    Examples
    --------
    >>> parse_timesteps("300,100,10", None)
    [300, 100, 10]
    """
    if text is None:
        return None
    if steps is not None:
        raise ConfigError("--steps and --timesteps exclude each other.", "Leave out one of them.")
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--timesteps takes whole numbers with commas between, not '{text}'.",
            "Try --timesteps 300,200,100,40,10.",
        ) from None


def model_identity(directory: RunDirectory) -> str:
    """Fingerprint of a trained model: what it was made from, and its weights.

    Raises
    ------
    RunError
        If the run has no trained model.
    """
    from pileupgen.run import fingerprint, hash_file

    made_from = directory.details("train")["made_from"]
    weights = sorted(directory.model.rglob("*.safetensors"))
    return fingerprint([made_from, {str(p.parent.name): hash_file(p) for p in weights}])


def operating_point(session: Session, given: dict[str, Any]) -> dict[str, Any] | None:
    """Settings that `scan` recommends for this run, where nothing overrides them.

    Parameters
    ----------
    session : Session
    given : dict
        Settings of ``translate`` given as options; None values are not given.

    Returns
    -------
    dict or None
        Settings; None where there is no recommendation, it is for another model, an option is
        given, or the config sets more than the number of steps.

    Raises
    ------
    RunError
        If the file is damaged.
    """
    from pileupgen.cli.ui.console import console, warn
    from pileupgen.diffusion.settings import WAY, Settings

    path = session.run.path / OPERATING_POINT
    if not path.is_file():
        return None
    options = [key for key in WAY if given.get(key) is not None]
    configured = sorted((session.configured - {"num_inference_steps"}) & WAY)
    if options or configured:
        by = "options given" if options else f"config sets translate.{configured[0]}"
        console.print(f"[bold]point[/]  {path} not used: {by}", soft_wrap=True)
        return None
    try:
        point = json.loads(path.read_text(encoding="utf-8"))
        found, model = point["settings"], point["model"]
        settings = {key: found[key] for key in WAY & found.keys()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}.", "Delete it, or scan again.") from error
    if model != model_identity(session.run):
        warn(f"{path} is of another model and not used; run 'pileupgen scan' again.")
        return None
    console.print(
        f"[bold]point[/]  {path}: {Settings.from_dict(settings).describe()}", soft_wrap=True
    )
    return settings


def next_command(session: Session, direction: str, path: Path) -> str:
    """What to run once a store is translated; ``direction`` is ``<source>_to_<target>``."""
    if direction in ("data_to_data", "mc_to_mc"):
        return f"pileupgen validate{session.arguments} --control {path}"
    if direction == "data_to_mc":
        return f"pileupgen export{session.arguments} --store {path}"
    extra = "" if path == session.run.translated else f" --input {path}"
    return f"pileupgen validate{session.arguments}{extra}"


def run_path(text: str) -> Path:
    """A run directory given by name.

    Raises
    ------
    RunError
        If there is none.
    """
    path = Path(text)
    if not path.is_dir():
        raise RunError(f"No run directory at {path}.", "Give the path of a trained run.")
    return path
