"""torchrun on this machine alone."""

import sys


def torchrun(n_ranks: int) -> list[str]:
    """The command, before its other options and the script. The address: a host's name may be in no DNS."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1",
            f"--nproc_per_node={n_ranks}"]
