"""A Slurm of two nodes on this machine: real daemons on the loopback, private keys, ports and folders."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.torchrun import ROOT

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "sinfo", "scancel")
# Both nodes claim more than there is: the batch scripts ask for a node with eight GPUs.
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobRequeue=1
KillWait=20
MinJobAge=3600
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=32 RealMemory=8000 Gres=gpu:8 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=32 RealMemory=8000 Gres=gpu:8 State=UNKNOWN
PartitionName=debug Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no such Slurm here, or nothing."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"


class LocalSlurm:
    """Up inside `with`. `folder` must have a short path: it holds a socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        known = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        self.environment = {**known, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
                            "SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> LocalSlurm:
        (self.folder / "state").mkdir(parents=True)
        host = socket.gethostname().split(".")[0]
        (self.folder / "slurm.conf").write_text(CONF.format(host=host, folder=self.folder, ports=_free_ports(3)))
        for number in range(8):
            (self.folder / f"gpu{number}").touch()
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-7]\n")
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        try:
            self.run("munged", "--force", f"--socket={self.folder}/munge.socket", f"--key-file={key}",
                     f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
                     f"--seed-file={self.folder}/munge.seed", "--num-threads=2")
            self.run("slurmctld", "-c")
            for node in ("n1", "n2"):
                (self.folder / f"spool.{node}").mkdir()
                self.run("slurmd", "-N", node, "-c")
            self.wait(lambda: self.run("sinfo", "-h", "-N", "-o", "%T").split() == ["idle", "idle"], 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for job in self.run("squeue", "-h", "-o", "%i", check=False).split():
            self.run("scancel", "--full", "--signal=KILL", job, check=False)
            self.run("scancel", job, check=False)
        for name in ("slurmd.n1", "slurmd.n2", "slurmctld", "munged"):
            pid = self.folder / f"{name}.pid"
            if pid.is_file():
                os.kill(int(pid.read_text()), signal.SIGTERM)
                self.wait(lambda gone=pid: not gone.is_file(), 30)

    def run(self, *command: str, check: bool = True, cwd: Path = ROOT, **environment: str) -> str:
        """A command of Slurm, to its end; what it prints."""
        result = subprocess.run(command, cwd=cwd, env={**self.environment, **environment}, text=True, timeout=60,
                                capture_output=True, check=False)
        assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result.stdout

    def submit(self, script: str, *arguments: str, options: tuple[str, ...] = (), cwd: Path = ROOT,
               **environment: str) -> str:
        """The number of a new job; its output is in `folder`/NUMBER.out."""
        given = {"VENV": sys.prefix, "OMP_NUM_THREADS": "1", **environment}
        return self.run("sbatch", "--parsable", f"--output={self.folder}/%j.out", *options, script, *arguments,
                        cwd=cwd, **given).strip()

    def state(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says."""
        words = self.run("scontrol", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for_end(self, job: str, seconds: float) -> dict[str, str]:
        """The state of a job that has ended for good."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self.wait(lambda: self.state(job)["JobState"] in over, seconds, self.folder / f"{job}.out")
        return self.state(job)

    @staticmethod
    def wait(condition: Callable[[], bool], seconds: float, log: Path | None = None) -> None:
        """Look again and again until something has happened; the output of a job is shown if it does not."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(log.read_text() if log is not None and log.is_file() else "not in time")
            time.sleep(0.3)


def _free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
