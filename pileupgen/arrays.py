"""Short names of the arrays that signatures have most, and a division that they share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def quotient(numerator: NDArray[Any], denominator: NDArray[Any], empty: float = 0.0) -> Floats:
    """Divide, where there is something above 0 to divide by.

    Parameters
    ----------
    numerator, denominator : arrays
        Of shapes that broadcast.
    empty : float
        Answer elsewhere, NaN denominators included.

    Returns
    -------
    float64 array
        Of the broadcast shape, in the unit of the numerator over that of the denominator.
    """
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), empty)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)
