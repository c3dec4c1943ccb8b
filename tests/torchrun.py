"""Start real torchrun jobs from tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def torchrun(n_ranks: int, script: str | Path, *arguments: str, cwd: Path = ROOT, timeout: float = 240,
             **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the checkout on `n_ranks` ranks of this machine, one thread each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n_ranks}",
               str(ROOT / script), *arguments]
    known = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=cwd, env={**os.environ, **known}, timeout=timeout, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
