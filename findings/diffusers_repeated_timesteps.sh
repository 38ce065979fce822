#!/usr/bin/env bash
# diffusers 0.42.1: with the cosine schedule, DPMSolverMultistepScheduler asks the network at the
# same timestep again and again when its noise levels follow Karras or a beta distribution.
#
# The cosine schedule ("squaredcos_cap_v2") ends at a noise level σ = 20291, where a linear schedule
# ends at 157. Karras' levels are spread evenly in σ^(1/7), so most of them lie above every level that
# the schedule has at t = 998 and below, and all those become timestep 998. Seen, distinct timesteps
# among 20 steps:
#   default 20    Karras 12    exponential 16    beta 3
# (Karras: 998 nine times in a row, then 997, 996, 994, 989, … 33, 0; beta: 998 eighteen times, then
# 996 and 0.) Nothing warns, and `num_inference_steps` calls of the network are made all the same. With
# the linear schedule all four give 20 distinct timesteps.
#
# Exits with 0 while this holds, with 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" -W error::UserWarning - <<'PY'
import sys

import diffusers

KINDS = {
    "default": {},
    "Karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
}


def timesteps(schedule: str, settings: dict[str, bool]) -> list[int]:
    scheduler = diffusers.DPMSolverMultistepScheduler(beta_schedule=schedule, **settings)
    scheduler.set_timesteps(20)
    return [int(t) for t in scheduler.timesteps]


print(f"diffusers {diffusers.__version__}")
distinct = {}
for schedule in ("squaredcos_cap_v2", "linear"):
    for kind, settings in KINDS.items():
        found = timesteps(schedule, settings)
        distinct[schedule, kind] = len(set(found))
        print(f"{schedule:18s} {kind:12s} {len(set(found)):2d} distinct of {len(found)}: {found}")
cosine = tuple(distinct["squaredcos_cap_v2", kind] for kind in KINDS)
linear = [distinct["linear", kind] for kind in KINDS]
holds = cosine == (20, 12, 16, 3) and min(linear) == 20
print("as described" if holds else "changed")
sys.exit(not holds)
PY
