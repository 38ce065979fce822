"""Feature tables in a comparison: what stands for observables, blocks and correlations of cells."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints, quotient
from pileupgen.calo.geometry import Grid
from pileupgen.errors import GeometryError
from pileupgen.measure.observables import Observable, ObservableSet
from pileupgen.measure.showers import ShowerSet, data_set_of


class FeatureSet:
    """The features of a table, as the observables of its events.

    Parameters
    ----------
    grid : Grid
        Grid of a feature table, see :meth:`Grid.of_features`.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.records = tuple(
            Observable(name, name, unit)
            for name, unit in zip(grid.layers, grid.units or (), strict=True)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names, in the order of the records."""
        return self.grid.layers

    def __getitem__(self, name: str) -> Observable:
        return self.records[self.names.index(name)]

    def measure(
        self,
        energy: NDArray[np.float32],
        event_id: Ints,  # noqa: ARG002 - as ObservableSet.measure
        mu: NDArray[np.float32] | None = None,  # noqa: ARG002
    ) -> dict[str, Floats]:
        """All features of a batch.

        Parameters
        ----------
        energy : float32 array, shape (N, F, 1, 1)
            The table, each feature in its unit.
        event_id : int64 array, shape (N,)
            Not used.
        mu : float32 array, shape (N,), optional
            Not used.

        Returns
        -------
        dict of float64 arrays, shape (N,)

        Raises
        ------
        GeometryError
            If the table does not have the grid's shape.
        """
        if energy.shape[1:] != self.grid.shape:
            raise GeometryError(f"Events of shape {energy.shape[1:]}, features {self.grid.shape}.")
        return {
            name: energy[:, place, 0, 0].astype(np.float64) for place, name in enumerate(self.names)
        }


def observables_of(
    grid: Grid, *, with_negatives: bool = False
) -> ObservableSet | FeatureSet | ShowerSet:
    """Choose the per-event numbers of a grid: observables of images or of showers, or features.

    Showers are what lies on one of the CaloChallenge's grids. Cells below 0 can be counted by
    themselves in images.
    """
    if grid.is_feature_table:
        return FeatureSet(grid)
    if data_set_of(grid) is not None:
        return ShowerSet(grid)
    return ObservableSet(grid, with_negatives=with_negatives)


def kind_of(grid: Grid) -> Literal["images", "features", "showers"]:
    """What the events of a grid are called in ``metrics.json``."""
    if grid.is_feature_table:
        return "features"
    return "images" if data_set_of(grid) is None else "showers"


def in_spreads(values: NDArray[np.float32], weight: Floats) -> NDArray[np.float32]:
    """Divide each column by its standard deviation, so that all count alike in a correlation.

    Parameters
    ----------
    values : float32 array, shape (N, F)
        Features of N events; a constant one stays as it is.
    weight : float64 array, shape (N,)
        Weights ≥ 0.
    """
    share = weight / weight.sum()
    wide = values.astype(np.float64)
    spread = np.sqrt(share @ np.square(wide - share @ wide))
    return (wide / np.where(spread > 0, spread, 1.0)).astype(np.float32)


def correlations(values: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Correlation of every two columns, and its standard error.

    The error is from the spread over events of the correlation's influence function,
    u v − r (u² + v²)/2 of standardised columns u and v, so it holds for any distribution.

    Parameters
    ----------
    values : float64 array, shape (N, F)
        Events.
    weight : float64 array, shape (N,)
        Weights ≥ 0.

    Returns
    -------
    value, error : float64 arrays, shape (F, F)
        0 where a column is constant.
    """
    share = weight / weight.sum()
    centred = values - share @ values
    spread = np.sqrt(share @ np.square(centred))
    u = quotient(centred, spread)
    value = (u * share[:, None]).T @ u
    # Σ w² (u v − r (u² + v²)/2)², multiplied out, so that no array is (N, F, F).
    s = np.square(share)[:, None]
    u2, u3, u4 = u**2, u**3, u**4
    even, odd = (s * u2).T @ u2, (s * u3).T @ u
    fourth = (s * u4).sum(axis=0)
    cross = odd + odd.T
    ends = fourth[:, None] + fourth[None] + 2 * even
    variance = even - value * cross + 0.25 * value**2 * ends
    return value, np.sqrt(np.maximum(variance, 0.0))
