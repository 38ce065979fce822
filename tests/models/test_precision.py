from __future__ import annotations

import pytest
import torch
from torch import nn

from pileupgen.models.networks import precision
from pileupgen.models.networks.precision import autocast, has_bf16
from pileupgen.training.step import new_accelerator


def cpu_with(monkeypatch: pytest.MonkeyPatch, **found: bool) -> None:
    """Let torch find these instructions in the processor."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"neon": True}, False),
    ],
)
def test_bf16_is_used_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, bool], expected: bool
) -> None:
    cpu_with(monkeypatch, **found)
    assert has_bf16("cpu") is expected
    kind = new_accelerator("cpu", "auto").mixed_precision
    assert kind == ("bf16" if expected else "no")
    # What is asked for by name is taken.
    assert new_accelerator("cpu", "bf16").mixed_precision == "bf16"
    assert new_accelerator("cpu", "no").mixed_precision == "no"
    with torch.no_grad(), autocast(torch.device("cpu")):
        made = nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2))
    assert made.dtype == (torch.bfloat16 if expected else torch.float32)


def test_gpus_are_asked_for_what_they_do_not_imitate(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return not including_emulation

    monkeypatch.setattr(precision.torch.cuda, "is_bf16_supported", supported)
    assert has_bf16("cuda:1")
    assert asked == [False]
    assert not has_bf16("mps")
