from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.events import EventKeys, Events
from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.settings import Settings
from pileupgen.diffusion.teacher import new_student, require_distillable
from pileupgen.errors import ConfigError
from tests.models.test_networks import scramble

WAYS = [
    Settings("partial", 300, 2.0, 4),
    Settings("partial", 300, 2.0, 4, fresh_noise=0.1, guidance="classifier-free"),
    Settings("partial", 100, 2.0, 4, map_scale=True),
    Settings("partial", 400, 1.0, 4, "ddim", guidance="ratio", guidance_interval=(50, 200)),
    Settings("invert", 600, 1.0, timesteps=(600, 200, 20), guidance_schedule="cosine"),
]


@pytest.fixture
def trained(pipeline: PileupTranslationPipeline):
    """With a network that does something; put back afterwards."""
    kept = {name: value.clone() for name, value in pipeline.denoiser.state_dict().items()}
    scramble(pipeline.denoiser.last, std=0.05)
    yield pipeline
    pipeline.denoiser.load_state_dict(kept)


@pytest.mark.parametrize("settings", WAYS, ids=lambda settings: settings.describe())
def test_a_new_student_translates_as_its_teacher_without_a_network(trained, events, settings):
    few = Events(*(part[:60] for part in events[:2]), EventKeys(events[2][:60], 3))
    student = new_student(trained, settings, 1, n_blocks=1).eval()

    def parts(pipeline, settings):
        translator = replace(pipeline.translator(Direction()), bf16=False)
        found = list(translator.parts(few, settings))
        return [
            torch.cat([getattr(part, name) for part in found]) for name in ("scores", "log_ratio")
        ]

    plain = parts(trained, replace(settings, network=False))
    own = parts(trained.taught(student), settings)
    for found, expected in zip(own, plain, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    exact = parts(trained.taught(student), replace(settings, exact=True))
    assert torch.equal(exact[0], parts(trained, settings)[0])
    assert float((exact[0] - plain[0]).abs().max()) > 0.01


def test_a_student_translates_in_its_own_way_and_direction_only(trained, events):
    settings = WAYS[0]
    few = tuple(part[:50] for part in events)
    student = new_student(trained, settings, 1, n_blocks=1).eval()
    taught = trained.taught(student)
    assert taught.student is student
    assert trained.student is None

    def differ(settings: Settings, **ways) -> bool:
        found = (one(*few, settings=settings, **ways).energy for one in (trained, taught))
        return not np.array_equal(*found)

    assert differ(settings)
    # How events are corrected or drawn is no part of the way.
    assert differ(replace(settings, n_correction_events=100, log_weight_limit=3.0))
    for change in (
        {"w": 1.0},
        {"t_release": 301},
        {"num_inference_steps": 5},
        {"network": False},
        {"map_scale": True},
    ):
        assert not differ(replace(settings, **change)), change
    assert not differ(settings, source="data", target="data")


@pytest.mark.parametrize(
    "settings",
    [
        Settings("generate"),
        Settings("calibrate"),
        Settings("transport"),
        Settings("partial", 0),
        Settings("partial", 300, sampler="ancestral"),
        Settings("invert+sde", 300),
        Settings("partial", 300, release="per-event"),
    ],
    ids=lambda settings: settings.describe(),
)
def test_settings_without_a_deterministic_solver_are_refused(pipeline, settings):
    with pytest.raises(ConfigError, match=r"cannot be distilled.* deterministic"):
        require_distillable(pipeline, settings)
