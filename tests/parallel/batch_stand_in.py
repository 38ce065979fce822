"""A batch system played by scripts: jobs are taken, run, are cancelled, and can be looked up.

What a real one does beyond this is tested with a real one, in ``tests/real``.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

# A job is a process group; while the file "held" is there, jobs are taken and not begun.
SBATCH = """#!/bin/sh
if [ -e {folder}/refusing ]; then
  echo "sbatch: error: invalid partition specified: nowhere" >&2
  echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
  exit 1
fi
cp "$1" {folder}/job-$$.sh
if [ -e {folder}/held ]; then
  echo $$ >> {folder}/pending
  echo "Submitted batch job $$"
  exit 0
fi
output=$(sed -n 's/^#SBATCH --output="\\(.*\\)"$/\\1/p' "$1")
echo $$ >> {folder}/submitted
log=$(echo "${{output:-{folder}/job-%j.log}}" | sed "s/%j/$$/")
setsid sh {folder}/job-$$.sh > "$log" 2>&1 &
echo "$$ $!" >> {folder}/jobs
echo "Submitted batch job $$"
"""
SCANCEL = """#!/bin/sh
for job in "$@"; do
  echo "$job" >> {folder}/cancelled
  group=$(sed -n "s/^$job //p" {folder}/jobs 2> /dev/null)
  # Only ever a job that sbatch has started: "kill -- -1" would end every process of the user.
  if [ -n "$group" ] && [ "$group" -gt 1 ]; then kill -- "-$group" 2> /dev/null || true; fi
done
exit 0
"""
SQUEUE = """#!/bin/sh
while read -r job group; do
  kill -s 0 -- "-$group" 2> /dev/null && echo "$job|RUNNING|None"
done < {folder}/jobs
for job in $(cat {folder}/pending); do
  grep -qx "$job" {folder}/cancelled || echo "$job|PENDING|Resources"
done
exit 0
"""


class StandIn:
    """The scripts and what they have written down.

    Parameters
    ----------
    folder : Path
        For both.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("jobs", "pending", "cancelled", "submitted"):
            (folder / name).touch()
        for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL), ("squeue", SQUEUE)):
            script = folder / name
            script.write_text(text.format(folder=folder))
            script.chmod(0o755)

    def groups(self) -> dict[str, int]:
        """Process group of each job that was begun."""
        lines = [line.split() for line in (self.folder / "jobs").read_text().splitlines()]
        return {job: int(group) for job, group in lines if int(group) > 1}

    def listed(self, name: str) -> list[str]:
        return (self.folder / name).read_text().split()

    def is_running(self, job: str) -> bool:
        try:
            os.killpg(self.groups()[job], 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self, job: str) -> None:
        os.killpg(self.groups()[job], signal.SIGKILL)

    def close(self) -> None:
        for job in self.groups():
            if self.is_running(job):
                self.kill(job)
