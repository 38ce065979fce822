"""The precision in which a device computes the products of networks."""

from __future__ import annotations

import torch


def has_bf16(device: torch.device | str) -> bool:
    """Whether a device has instructions for products of bfloat16 numbers.

    Without them bfloat16 is imitated: a convolution of 16 channels then takes 17 times the time of
    single precision on a CPU that has AVX2 alone. Devices other than CUDA GPUs and CPUs compute in
    single precision, too.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch
        return bool(torch.cpu._is_avx512_bf16_supported())
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def precision_of(device: torch.device | str, bf16: bool = True) -> str:
    """Name what :func:`autocast` computes in: ``bfloat16`` or ``float32``."""
    return "bfloat16" if bf16 and has_bf16(device) else "float32"


def autocast(device: torch.device, bf16: bool = True) -> torch.autocast:
    """A context of bfloat16 for networks, where that is asked for and the device has it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16 and has_bf16(device))
