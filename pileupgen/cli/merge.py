"""`pileupgen merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pileupgen.cli.ui.session import ConfigOption, RunOption


def merge(
    shards: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SHARD]…",
            help="Stores written by 'translate --shard'. (default: those of the run)",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    run: RunOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="(default: <run>/translated/mc_to_data.h5)", show_default=False
        ),
    ] = None,
) -> None:
    """Join the shards of one translation: the very bytes that it would have written at once.

    Shards may be given in any order. Missing, doubled and foreign ones are named.

    \b
    Examples:
      pileupgen merge
      pileupgen merge --run runs/atlas
      pileupgen merge out.shard-1-of-2.h5 out.shard-2-of-2.h5 -o out.h5
    """
    from pileupgen.cli.ui.console import say_next, say_read, say_wrote
    from pileupgen.cli.ui.session import open_session
    from pileupgen.cli.ui.translation_options import next_command
    from pileupgen.diffusion.shard import merge_shards
    from pileupgen.errors import ConfigError, MissingInputError
    from pileupgen.samples.store import ImageStore

    session = open_session(config, run)
    whole = session.run.translated
    if shards and output is None:
        raise ConfigError("Shards are given, but not where to write.", "Add --output FILE.")
    paths = shards or sorted(whole.parent.glob(f"{whole.stem}.shard-*{whole.suffix}"))
    if not paths:
        raise MissingInputError(
            f"No shards in {whole.parent}.",
            f"Run 'pileupgen translate{session.arguments} --shard 1/2' and so on first.",
        )
    for path in paths:
        say_read(path)
    target = output or whole
    n = merge_shards(paths, target)
    say_wrote(target, f"{n:,} events")
    say_next(next_command(session, ImageStore(target).domain, target))
