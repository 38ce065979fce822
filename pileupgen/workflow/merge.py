"""The shards of a translation made one store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pileupgen.errors import ConfigError, MissingInputError
from pileupgen.files import require_no_folder, require_not_read
from pileupgen.workflow.precision import tell_precision
from pileupgen.workflow.run import Run
from pileupgen.workflow.translate import Translated, next_command


def merge(run: Run, shards: Sequence[Path] | None = None, output: Path | None = None) -> Translated:
    """Join the shards of one translation into the bytes that one process would have written.

    Parameters
    ----------
    run : Run
    shards : sequence of Path, optional
        In any order; those of the run if not given.
    output : Path, optional
        Store to write; must be given with shards.

    Raises
    ------
    ConfigError
        If shards are given without an output.
    MissingInputError
        If there are none.
    StoreError
        If shards are missing, there twice, or of different translations.
    """
    from pileupgen.diffusion.shard import merge_shards

    whole = run.directory.translated
    if shards and output is None:
        raise ConfigError("Shards are given, but not where to write.", "Add --output FILE.")
    paths = list(shards or sorted(whole.parent.glob(f"{whole.stem}.shard-*{whole.suffix}")))
    if not paths:
        raise MissingInputError(
            f"No shards in {whole.parent}.",
            f"Run 'pileupgen translate{run.arguments} --shard 1/2' and so on first.",
        )
    for path in paths:
        run.listener.read(path)
    target = output or whole
    require_no_folder(target)
    require_not_read(target, [*paths, run.directory.images("mc"), run.directory.images("data")])
    n_events = merge_shards(paths, target)
    run.listener.wrote(target, f"{n_events:,} events")
    tell_precision(target, run.listener)
    merged = Translated.read(target, is_new=True)
    run.listener.next(next_command(run, merged.store.domain, target))
    return merged
