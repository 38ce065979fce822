"""`pileupgen config`: what a config may hold."""

from __future__ import annotations

from collections.abc import Callable


def schema() -> None:
    """Print the JSON schema of a config: every setting with type, limits and default.

    \b
    Examples:
      pileupgen config schema > config.schema.json
    """
    import json

    import typer

    from pileupgen.config import Config

    typer.echo(json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False))


COMMANDS: dict[str, Callable[..., None]] = {"schema": schema}
