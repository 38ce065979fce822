"""Files that ship with pileupgen: configs, data cards, response cards."""

from __future__ import annotations

from pathlib import Path

from pileupgen.errors import ConfigError, did_you_mean

_PACKAGE = Path(__file__).parent


def resource_folder(kind: str) -> Path:
    """Folder of the shipped ``configs`` or ``data_cards``.

    A wheel carries them inside the package, a checkout beside it.
    """
    inside = _PACKAGE / "_resources" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def find_file(name: str, kind: str, near: Path | None = None) -> Path:
    """Resolve a file by path, or by name among the shipped ones.

    Looked for in this order: as given (from the working directory), beside ``near``, in
    ``<working directory>/<kind>``, among the shipped files. ``.yaml`` may be left out.

    Raises
    ------
    ConfigError
        If it is in none of these places; names the nearest shipped ones.
    """
    folders = [Path(), *([near.parent] if near else []), Path(kind), resource_folder(kind)]
    for folder in folders:
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    known = [path.stem for path in sorted(resource_folder(kind).glob("*.yaml"))]
    raise ConfigError(f"No file '{name}' among {kind}.", did_you_mean(Path(name).stem, known))
