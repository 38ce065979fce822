"""A real Slurm and a real XRootD server of this machine, on loopback, for the time of some tests.

Packages are installed by apt-get if they are not there. Every daemon is a child of this process, is
ended by its handle, and ends by itself should this process be killed. Ports are free ones and all
state is in a folder of its own, so that several copies run side by side.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

APT_SECONDS = 120
START_SECONDS = 60
_GUARD = Path("/usr/sbin/policy-rc.d")


def require_packages(**programs: str) -> None:
    """Install packages whose programs are missing, or skip the test with the reason.

    Parameters
    ----------
    **programs : str
        Program of each package; underscores stand for hyphens.
    """
    if os.geteuid() != 0:
        pytest.skip(
            "needs root: daemons start processes of other users, and packages are installed"
        )
    name = os.uname().nodename
    with suppress(OSError):
        if socket.gethostbyname(name).startswith("127."):
            _install([package for package, program in programs.items() if _is_absent(program)])
            return
    pytest.skip(f"needs a machine whose name, {name}, resolves to loopback")


def _is_absent(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None


def _install(names: Sequence[str]) -> None:
    if not names:
        return
    if shutil.which("apt-get") is None:
        pytest.skip(f"needs {', '.join(names)}, or apt-get to install it")
    # Another copy of the suite may be at it.
    with (Path(tempfile.gettempdir()) / "pileupgen-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _no_services_of_the_machine():
            quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
            packages = [name.replace("_", "-") for name in names]
            install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
            for command in (["apt-get", "update", "-q"], install):
                done = _run(command, timeout=APT_SECONDS, **quiet)
                if done is None or done.returncode:
                    said = "no answer" if done is None else done.stderr.strip().splitlines()[-1:]
                    pytest.skip(f"{' '.join(command)} failed: {said}")


@contextmanager
def _no_services_of_the_machine() -> Any:
    """Keep packages from starting daemons with no configuration."""
    if _GUARD.exists():
        yield
        return
    _GUARD.write_text("#!/bin/sh\nexit 101\n")
    _GUARD.chmod(0o755)
    try:
        yield
    finally:
        _GUARD.unlink()


def _run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, **options)
    except subprocess.TimeoutExpired:
        return None


def free_ports(n: int) -> list[int]:
    """Ports that nobody listened at a moment ago."""
    sockets = [socket.socket() for _ in range(n)]
    for probe in sockets:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in sockets]
    for probe in sockets:
        probe.close()
    return ports


class Daemons:
    """Child processes and their folder.

    Parameters
    ----------
    name : str
        Begins the folder's name; the folder can be entered by everybody, as munge insists.
    """

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"pileupgen-{name}-"))
        self.folder.chmod(0o755)
        self._processes: list[subprocess.Popen[bytes]] = []

    def launch(self, *command: str, ready: Callable[[], object]) -> subprocess.Popen[bytes]:
        """Start a daemon and wait until it is ready."""
        log = self.folder / f"{command[0]}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            )
        self._processes.append(process)
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-2000:]
                self.close()
                raise AssertionError(f"{command[0]} did not start: {said}")
            time.sleep(0.1)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._processes.remove(process)

    def close(self) -> None:
        for process in self._processes[::-1]:
            self.end(process)
        shutil.rmtree(self.folder, ignore_errors=True)


SLURM_CONF = """
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
# Nothing listens beyond this machine.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/state/slurmctld
SlurmdPidFile={folder}/spool/slurmd
# Containers have no cgroups that Slurm could use.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MailProg=/bin/true
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
# The node may have less than it says.
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
SchedulerParameters=batch_sched_delay=0
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 State=UNKNOWN
PartitionName=debug Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


class Slurm(Daemons):
    """A Slurm of one node with two processors.

    Its commands are asked with ``environment``.
    """

    def __init__(self) -> None:
        require_packages(
            munge="munged", slurmctld="slurmctld", slurmd="slurmd", slurm_client="sbatch"
        )
        super().__init__("slurm")
        folder = self.folder
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        port, node_port = free_ports(2)
        host = os.uname().nodename.split(".")[0]
        conf = folder / "slurm.conf"
        conf.write_text(SLURM_CONF.format(folder=folder, port=port, node_port=node_port, host=host))
        # slurmd loads such a plugin even where nothing is to use it.
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self.environment = {"SLURM_CONF": str(conf)}
        munge = folder / "munge"
        self.launch(
            "munged",
            "--foreground",
            f"--socket={munge}/socket",
            f"--key-file={key}",
            f"--pid-file={munge}/pid",
            f"--seed-file={munge}/seed",
            f"--log-file={munge}/log",
            ready=lambda: self.ask("munge", "--no-input", f"--socket={munge}/socket"),
        )
        self.launch("slurmctld", "-D", "-f", str(conf), ready=lambda: self.ask("scontrol", "ping"))
        self.launch("slurmd", "-D", "-f", str(conf), ready=self._is_idle)

    def ask(self, *command: str) -> str:
        """What a command prints; nothing if it fails."""
        done = _run(command, timeout=30, env={**os.environ, **self.environment})
        return "" if done is None or done.returncode else done.stdout.strip()

    def _is_idle(self) -> bool:
        return self.ask("sinfo", "--noheader", "--format=%T") == "idle"

    def jobs(self, state: str = "all") -> list[str]:
        """Ids of the jobs named pileupgen that are in the queue and not about to leave it."""
        states = "PENDING,CONFIGURING,RUNNING" if state == "all" else state
        command = ("squeue", "--noheader", "--name=pileupgen", "--format=%i", f"--states={states}")
        return self.ask(*command).split()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        words = self.ask("scontrol", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def occupy(self, n: int) -> list[str]:
        """Let jobs that do nothing hold ``n`` processors."""
        command = ("sbatch", "--parsable", "--output=/dev/null", "--wrap", "exec sleep 600")
        return [self.ask(*command) for _ in range(n)]

    def cancel(self, *numbers: str) -> None:
        self.ask("scancel", *numbers)

    def cancel_all(self) -> None:
        numbers = self.ask("squeue", "--noheader", "--format=%i").split()
        if numbers:
            self.ask("scancel", "--full", "--signal=KILL", *numbers)
            self.cancel(*numbers)
            deadline = time.monotonic() + 15
            while self.ask("squeue", "--noheader", "--format=%i") and time.monotonic() < deadline:
                time.sleep(0.2)

    def close(self) -> None:
        self.cancel_all()
        super().close()


XROOTD_CONF = """
xrd.port {port}
# It listens everywhere, and hangs up on whoever does not come from here.
xrd.allow host 127.0.0.1
all.export / r/o
oss.localroot {served}
all.adminpath {admin}
all.pidpath {admin}
"""


class XRootD(Daemons):
    """An anonymous, read-only XRootD server of the folder ``served``."""

    def __init__(self) -> None:
        require_packages(xrootd_server="xrootd")
        super().__init__("xrootd")
        self.served = self.folder / "served"
        self.served.mkdir()
        self._admin = self.folder / "admin"
        (self.port,) = free_ports(1)
        self.url = f"root://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        # The server refuses to run as root, and takes the user that its package has made.
        shutil.rmtree(self._admin, ignore_errors=True)
        self._admin.mkdir()
        shutil.chown(self._admin, "xrootd")
        conf = self.folder / "server.cfg"
        conf.write_text(XROOTD_CONF.format(port=self.port, served=self.served, admin=self._admin))
        self._process = self.launch(
            *("xrootd", "-R", "xrootd", "-I", "v4", "-s", f"{self._admin}/pid", "-c", str(conf)),
            ready=self._answers,
        )

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self.end(self._process)
            self._process = None
