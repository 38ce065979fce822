from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

from pileupgen.diffusion import run_onnx
from pileupgen.errors import ConfigError, StoreError


def test_the_translation_of_a_store_is_exported(tiny_run: Path, command, tmp_path: Path) -> None:
    store, folder = tmp_path / "translated.h5", tmp_path / "onnx"
    options = ("--t-release", "250", "--w", "1.5", "--sampler", "ddim", "--device", "cpu")
    command("translate", "--run", tiny_run, *options, "-o", store)
    out = command("export", "--run", tiny_run, "--store", store, "--onnx", folder)
    assert "agrees with torch in fp32 on 8 events" in out
    plan = json.loads((folder / "translation.json").read_text())
    assert plan["start"]["t"] == 250
    assert [step["t"] for step in plan["phases"][0]["steps"]] == [250, 166, 83]
    assert plan["phases"][0]["steps"][0]["velocity"] == [
        {"graph": "denoiser", "label": 1, "weight": 1.0},
        {"graph": "closed_form", "label": 1, "weight": 1.5},
        {"graph": "closed_form", "label": 2, "weight": -1.5},
    ]
    assert plan["correction"] is not None
    assert run_onnx.too_different(run_onnx.check(folder)) == []

    command(
        "export",
        "--run",
        tiny_run,
        "--store",
        store,
        "--onnx",
        folder,
        "-o",
        "x",
        error=ConfigError,
    )
    untranslated = tiny_run / "data" / "mc.h5"
    command(
        "export", "--run", tiny_run, "--store", untranslated, "--onnx", folder, error=StoreError
    )
