"""The process's memory."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of the parameters in glibc's ``malloc.h``."""
_LARGEST_MMAP_THRESHOLD = 32 << 20
_TRIM_THRESHOLD = 1 << 30


@cache
def keep_freed_memory() -> bool:
    """Let the allocator keep what is freed, up to a gigabyte, for the next activations.

    glibc gives arrays of some megabytes back to the system when they are freed, and their
    pages are mapped and zeroed again for the next layer: a tenth of a small network's time.

    Returns
    -------
    bool
        Whether there is such an allocator; another one is left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD))
