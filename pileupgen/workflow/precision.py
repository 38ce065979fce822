"""In which precision a store was translated, which depends on the machines that did it."""

from __future__ import annotations

from pathlib import Path

from pileupgen.progress import Listener


def tell_precision(path: Path, listener: Listener) -> str:
    """Say in which precision networks made a store, and warn of two."""
    # `translate` looks at what it is asked before it imports what takes long.
    from pileupgen.diffusion.shard import PRECISION, precisions
    from pileupgen.samples.store import ImageStore

    provenance = ImageStore(path).provenance
    found = precisions(provenance)
    if len(found) > 1:
        listener.warn(
            f"the events of {path} were computed in {' and '.join(found)}, by machines with and "
            "without instructions for bfloat16, and differ by its rounding: translate all parts on "
            "machines of one kind to have the same events again"
        )
    else:
        listener.tell("precision", f"networks in {found[0]}")
    return str(provenance.get(PRECISION, "unknown"))
