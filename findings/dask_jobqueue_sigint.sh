#!/usr/bin/env bash
# dask-jobqueue 0.9.0 with distributed 2026.8.0: importing dask_jobqueue replaces the process's handler
# of SIGINT, so that Ctrl-C no longer raises KeyboardInterrupt and a script that is interrupted ends
# with exit code 0.
#
# A script imports dask_jobqueue, starts no cluster, and waits; it is sent SIGINT, as Ctrl-C does. Seen:
#   without the import: KeyboardInterrupt, the process ends by signal 2 or with exit code 130
#   with the import:    no KeyboardInterrupt, exit code 0, so that "script && next" goes on
# The handler is set at import, for every program that has the package loaded, whether or not it
# submits a job. A program that wants its own handling has to set the handler again after the import.
#
# Exits with 0 while this holds, with 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet dask-jobqueue==0.9.0 distributed==2026.8.0 dask==2026.8.0
"$folder/venv/bin/python" - <<'PY'
import signal
import subprocess
import sys

WAIT = """
import signal, sys, time
{imports}
print("default" if signal.getsignal(signal.SIGINT) is signal.default_int_handler else "replaced")
sys.stdout.flush()
try:
    time.sleep(30)
except KeyboardInterrupt:
    print("KeyboardInterrupt")
    raise
"""


def interrupted(imports: str) -> tuple[list[str], int]:
    """What the script printed and its exit code, after SIGINT."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT.format(imports=imports)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    first = process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    return [first, *rest.split()], process.returncode


plain, plain_code = interrupted("")
loaded, loaded_code = interrupted("import dask_jobqueue")
print(f"without the import: {plain}, exit code {plain_code}")
print(f"with the import: {loaded}, exit code {loaded_code}")
holds = plain == ["default", "KeyboardInterrupt"] and plain_code in (-2, 130)
holds &= loaded == ["replaced"] and loaded_code == 0
print("as described" if holds else "changed")
sys.exit(not holds)
PY
