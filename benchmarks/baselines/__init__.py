"""What else one could do: the rows of the table beside pileupgen's own."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.baselines.contract import Baseline


def make_baseline(name: str) -> Baseline:
    """A row's method, not fitted yet."""
    return BASELINES[name]()


def _identity() -> Baseline:
    from benchmarks.baselines.morphing import Identity

    return Identity()


def _plain() -> Baseline:
    from benchmarks.baselines.morphing import Morphing

    return Morphing(chained=False)


def _chained() -> Baseline:
    from benchmarks.baselines.morphing import Morphing

    return Morphing(chained=True)


def _copula() -> Baseline:
    from benchmarks.baselines.copula import GaussianCopula

    return GaussianCopula()


def _carl(calibrated: bool) -> Baseline:
    from benchmarks.baselines.reweighting import Reweighting

    return Reweighting(calibrated)


def _flow() -> Baseline:
    from benchmarks.baselines.flow import FlowMorphing

    return FlowMorphing()


def _autoregressive() -> Baseline:
    from benchmarks.baselines.systems import Translator

    return Translator("autoregressive")


def _pixels() -> Baseline:
    from benchmarks.baselines.pixels import PixelDiffusion

    return PixelDiffusion()


def _ours(*settings: str | float) -> Baseline:
    from benchmarks.baselines.ours import Ours
    from pileupgen.diffusion.settings import Settings

    return Ours(lambda *_: Settings(*settings))  # type: ignore[arg-type]


def _configured() -> Baseline:
    from benchmarks.baselines.ours import Ours, as_configured

    return Ours(as_configured)


def _taught() -> Baseline:
    from benchmarks.baselines.ours import Taught, as_configured

    return Taught(as_configured)


BASELINES: dict[str, Callable[[], Baseline]] = {
    "identity": _identity,
    "quantile morphing, plain": _plain,
    "quantile morphing, chained": _chained,
    "Gaussian-copula map": _copula,
    "reweighting (CARL)": lambda: _carl(calibrated=False),
    "reweighting (CARL) after calibration": lambda: _carl(calibrated=True),
    "normalizing flow": _flow,
    "autoregressive map": _autoregressive,
    "pixel diffusion": _pixels,
    "transport": lambda: _ours("transport", 0, 0.0, 1),
    "generate": lambda: _ours("generate", 999, 0.0, 15),
    "partial": lambda: _ours("partial", 300, 2.0, 10),
    "invert": lambda: _ours("invert", 995, 0.0, 10),
    "translate, as configured": _configured,
    "translate, by its student": _taught,
}
"""In the order of the table."""
