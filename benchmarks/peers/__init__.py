"""What else one could do: the rows of the table beside pileupgen's own."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers.contract import Peer


def make_peer(name: str) -> Peer:
    """A row's method, not fitted yet."""
    return PEERS[name]()


def _identity() -> Peer:
    from benchmarks.peers.morphing import Identity

    return Identity()


def _plain() -> Peer:
    from benchmarks.peers.morphing import Morphing

    return Morphing(chained=False)


def _chained() -> Peer:
    from benchmarks.peers.morphing import Morphing

    return Morphing(chained=True)


def _copula() -> Peer:
    from benchmarks.peers.copula import GaussianCopula

    return GaussianCopula()


def _carl() -> Peer:
    from benchmarks.peers.reweighting import Reweighting

    return Reweighting()


def _flow() -> Peer:
    from benchmarks.peers.flow import FlowMorphing

    return FlowMorphing()


def _pixels() -> Peer:
    from benchmarks.peers.pixels import PixelDiffusion

    return PixelDiffusion()


def _ours(*way: str | float) -> Peer:
    from benchmarks.peers.ours import Ours
    from pileupgen.diffusion.settings import Settings

    return Ours(lambda *_: Settings(*way))  # type: ignore[arg-type]


def _configured() -> Peer:
    from benchmarks.peers.ours import Ours, as_configured

    return Ours(as_configured)


PEERS: dict[str, Callable[[], Peer]] = {
    "identity": _identity,
    "quantile morphing, plain": _plain,
    "quantile morphing, chained": _chained,
    "Gaussian-copula map": _copula,
    "reweighting (CARL)": _carl,
    "normalizing flow": _flow,
    "pixel diffusion": _pixels,
    "generate": lambda: _ours("generate", 999, 0.0, 15),
    "partial": lambda: _ours("partial", 300, 2.0, 10),
    "invert": lambda: _ours("invert", 995, 0.0, 10),
    "translate, as configured": _configured,
}
"""In the order of the table."""
