"""The precision in which a device computes the products of networks."""

from __future__ import annotations

import torch

_SINGLE_ONLY = ("DEFAULT", "NO AVX", "AVX2")
"""Instruction sets of torch's kernels, of processors on which it computes bfloat16 by detours that
take several times as long as single precision."""


def has_bf16(device: torch.device | str) -> bool:
    """Whether bfloat16 is no slower than single precision: not on CPUs below AVX-512.

    >>> has_bf16("cuda")
    True
    """
    if torch.device(device).type != "cpu":
        return True
    return torch.backends.cpu.get_cpu_capability() not in _SINGLE_ONLY


def autocast(device: torch.device, bf16: bool = True) -> torch.autocast:
    """A context in which networks compute in bfloat16, where that is asked for and no slower."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16 and has_bf16(device))
