"""A saved pipeline loads in a process that has not seen its classes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pileupgen.models

CHECK = """
import sys
import pileupgen.diffusion.for_diffusers
print(*(name for name in sys.modules if name.startswith("pileupgen.models.")))
"""


def test_the_pipeline_imports_every_module_that_holds_a_model():
    folder = Path(pileupgen.models.__file__).parent
    holds_a_model = {
        ".".join(("pileupgen", "models", *path.relative_to(folder).with_suffix("").parts))
        for path in folder.rglob("*.py")
        if "@register_to_config" in path.read_text(encoding="utf-8")
    }
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True)
    assert holds_a_model - set(done.stdout.split()) == set()
    assert len(holds_a_model) > 5
