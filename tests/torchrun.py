"""Start real torchrun jobs from tests."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def start_torchrun(n_ranks: int, script: str | Path, *arguments: str, cwd: Path = ROOT,
                   **environment: str) -> subprocess.Popen[str]:
    """Start a script of the checkout on `n_ranks` ranks of this machine, one thread each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n_ranks}",
               str(ROOT / script), *arguments]
    known = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(command, cwd=cwd, env={**os.environ, **known}, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)


def torchrun(n_ranks: int, script: str | Path, *arguments: str, cwd: Path = ROOT, timeout: float = 240,
             **environment: str) -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    job = start_torchrun(n_ranks, script, *arguments, cwd=cwd, **environment)
    try:
        said, _ = job.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        job.terminate()  # torchrun takes its ranks with it; a kill would leave them
        raise
    return subprocess.CompletedProcess(job.args, job.returncode, said)


def pid_of_rank(job: subprocess.Popen[str], rank: int) -> int:
    """The process of a rank."""
    for child in Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"rank {rank} is not running")


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Look again and again until something has happened."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not happened in time"
        time.sleep(0.1)
