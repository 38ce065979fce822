"""Options that every command has, and the config and run directory they resolve to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pileupgen.errors import ConfigError

if TYPE_CHECKING:
    from pileupgen.config import Config
    from pileupgen.run import RunDirectory
    from pileupgen.samples.store import ImageStore

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="YAML config, or the name of a shipped one. (default: the run's own, else demo)",
        show_default=False,
    ),
]
RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run", "-r", help="Run directory. (default: runs/<config name>)", show_default=False
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed. (default: the config's)", show_default=False),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", help="cpu, cuda, cuda:1, mps. (default: the best there is)", show_default=False
    ),
]


@dataclass(frozen=True)
class Session:
    """A checked config and the run directory it belongs to."""

    config: Config
    run: RunDirectory
    config_path: Path
    arguments: str
    """``--config … --run …`` as they were given, for the command to run next."""
    configured: frozenset[str] = frozenset()
    """Settings of ``translate`` that the config gives a value of its own."""

    def adopt(self) -> None:
        """Bind the run to the config, or fail if it is bound to another."""
        import yaml

        values = self.config.to_dict()
        dump = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        self.run.adopt(values, dump)


def open_session(
    config: Path | None, run: Path | None, seed: int | None = None, **overrides: Any
) -> Session:
    """Load the config, apply the command line's overrides, choose the run directory.

    Parameters
    ----------
    config : Path or None
        A path or the name of a shipped config; None takes the run's own, else ``demo``.
    run : Path or None
        Run directory; None takes ``runs/<config name>``.
    seed : int or None
        Replaces the config's seed.
    **overrides
        ``section={key: value}``; None values are left out.

    Raises
    ------
    ConfigError
        If the config or an override does not fit.
    """
    from pileupgen.config import parse_config, read_config
    from pileupgen.resources import find_file
    from pileupgen.run import RunDirectory

    own = run / "config.yaml" if run is not None else None
    if config is None and own is not None and own.is_file():
        path = own
    else:
        path = find_file(str(config or "demo"), "configs")
    read = read_config(path)
    loaded = parse_config(read, str(path))
    values = loaded.to_dict()
    configured = set(read.get("translate") or {})
    if path == own:
        # A run's own config spells out the defaults too.
        defaults = type(loaded.translate)().to_dict()
        configured = {key for key in configured if values["translate"][key] != defaults[key]}
    if seed is not None:
        values["seed"] = seed
    for section, changes in overrides.items():
        values[section].update({key: value for key, value in changes.items() if value is not None})
    directory = RunDirectory(run or Path("runs") / loaded.name)
    if directory.path.name.startswith("-"):
        raise ConfigError(f"--run is missing its value (got '{directory.path}').")
    given = [("--config", config), ("--run", run)]
    arguments = "".join(f" {name} {value}" for name, value in given if value is not None)
    return Session(
        parse_config(values, str(path)), directory, path, arguments, frozenset(configured)
    )


def open_store(path: Path, command: str) -> ImageStore:
    """Open an image store, or say which command makes it.

    Raises
    ------
    MissingInputError
        If there is none.
    """
    from pileupgen.errors import MissingInputError
    from pileupgen.samples.store import ImageStore

    if not path.is_file():
        raise MissingInputError(f"No image store at {path}.", f"Run '{command}' first.")
    return ImageStore(path)


def choose_device(device: str | None) -> str:
    """The given device, or CUDA, MPS, CPU in this order.

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
            f"Device '{device}' cannot be used: {str(error).splitlines()[0]}", "Try --device cpu."
        ) from error
    return device
