"""A SLURM of two nodes on this machine: its own munged, slurmctld and two slurmd, in a folder, which end with it."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "DEADLINE")
# The nodes are called by addresses of this machine, as what runs on one has to find the other by its name.
CONFIG = """\
ClusterName=yseg
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=60
MinJobAge=3600
NodeName=127.0.0.[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]},{ports[2]}] CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


def missing() -> str:
    """Why there can be no SLURM here; empty if there can."""
    if os.geteuid() != 0:
        return "SLURM's daemons need root"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")]
    return f"{', '.join(absent)}: not installed, see tests/cluster/install.sh" if absent else ""


class Slurm:
    """A running SLURM; `environment` is that of its commands."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._daemons, self._hurried = folder, list[subprocess.Popen](), set[str]()
        self.environment = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
        with contextlib.ExitStack() as sockets:
            free = [sockets.enter_context(socket.socket()) for _ in range(3)]
            for each in free:
                each.bind(("", 0))
            ports = [each.getsockname()[1] for each in free]
        host = socket.gethostname().partition(".")[0]
        (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, host=host, ports=ports))
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        folder.chmod(0o755)
        munge = [f"--{name}={folder}/munge.{file}" for name, file in
                 (("socket", "socket"), ("key-file", "key"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"))]
        self._start("munged", "--foreground", "--force", *munge)
        self._wait((folder / "munge.socket").exists, 20)
        self._start("slurmctld", "-D")
        for node in ("127.0.0.1", "127.0.0.2"):
            self._start("slurmd", "-D", "-N", node)
        self._wait(lambda: self._nodes() == ["idle"] * 2, 60)

    def _nodes(self):
        """The states of the nodes; none before the controller answers."""
        try:
            return self.run("sinfo", "--noheader", "--Node", "--format=%T", stderr=subprocess.DEVNULL).split()
        except subprocess.CalledProcessError:
            return []

    def _start(self, *command):
        log = open(self._folder / f"{command[0]}.out", "ab")  # noqa: SIM115 - as long as the daemon
        self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def run(self, *command, **options) -> str:
        """The output of one of SLURM's commands."""
        return subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, text=True, check=True, **options).stdout

    def sbatch(self, *arguments, cwd: Path, **environment: str) -> str:
        """Submit a job; returns its number."""
        command = ["sbatch", "--parsable", *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, env=self.environment | environment, stdout=subprocess.PIPE, text=True,
                              check=True).stdout.strip()

    def states(self, job: str) -> list[str]:
        """The states of a job, or of all tasks of an array."""
        return re.findall(r"JobState=(\w+)", self.run("scontrol", "show", "job", job))

    def wait(self, job: str, states: Sequence[str] = OVER, seconds: float = 300) -> list[str]:
        """Wait until a job, or each task of an array, has one of some states; returns them. One that is queued again has more."""
        self._wait(lambda: self._has(job, states), seconds)
        return self.states(job)

    def _has(self, job, wanted):
        states = self.states(job)
        if "PENDING" in states and job not in self._hurried:  # what is queued again waits for two minutes
            with contextlib.suppress(subprocess.CalledProcessError):  # at once its credential would still be revoked
                self.run("scontrol", "update", f"JobId={job}", "StartTime=now+5", stderr=subprocess.DEVNULL)
                self._hurried.add(job)
        return all(state in wanted for state in states)

    def _wait(self, until, seconds):
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, "\n".join(path.read_text(errors="replace")[-2000:] for path in
                                                     (*self._folder.glob("*.out"), *self._folder.glob("*.log")))
            time.sleep(0.1)

    def stop(self) -> None:
        """End the jobs and the daemons."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("scancel", "--user=root", "--full")
            time.sleep(1)
        for daemon in self._daemons[::-1]:
            daemon.terminate()
        for daemon in self._daemons[::-1]:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
