"""Other ways than torchrun to start a process: what they leave in its arguments and environment."""

import logging
import os
import socket

import vid2vid_dist.parent  # noqa: F401 - now: what a command imports later is slow
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import shown

log = logging.getLogger(__name__)

OF_A_RANK = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT", "SLURM_STEP_NUM_TASKS")
TORCHRUN = "start the ranks with torchrun --nproc_per_node N …"


def settle(arguments: list[str]) -> list[str]:
    """The arguments without --local-rank, as torch.distributed.launch and DeepSpeed's launcher give it; the
    environment becomes that of a rank, or that of a process alone.

    Raises `UserError` when several processes would each take themselves for the only one, or cannot find each other.
    """
    kept = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in ("--local-rank", "--local_rank"):
            kept.append(word)
        else:
            os.environ.setdefault("LOCAL_RANK", value if equals else next(words, "0"))
    for name in NUMBERS:
        told = os.environ.get(name, "0")
        if not told.isdecimal():
            del os.environ[name]  # whoever reports this reads them as well
            if told:
                raise UserError(f"{name}={shown(told)} is no number: unset it, or {TORCHRUN}")
    given = {name: os.environ[name] for name in OF_A_RANK if os.environ.get(name)}
    if "RANK" not in given or len(given) < len(OF_A_RANK):
        if int(given.get("WORLD_SIZE", "1")) > 1 or int(given.get("RANK", "0")) > 0:
            missing = ", ".join(name for name in OF_A_RANK if name not in given)
            raise UserError(f"the environment says that this is one of several ranks, but not {missing}: {TORCHRUN}")
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            os.environ.pop(name, None)
        if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            raise UserError(f"srun has started {os.environ['SLURM_STEP_NUM_TASKS']} tasks, each of which would train "
                            "alone: srun --ntasks-per-node=1 torchrun …, as slurm/node.sh does")
    elif int(given["RANK"]) >= int(given["WORLD_SIZE"]):
        raise UserError(f"RANK={given['RANK']} is not below WORLD_SIZE={given['WORLD_SIZE']}: {TORCHRUN}")
    elif int(given["MASTER_PORT"]) > 65535:
        raise UserError(f"MASTER_PORT={given['MASTER_PORT']} is no port: {TORCHRUN}")
    else:
        _require_address(given["MASTER_ADDR"], given["WORLD_SIZE"])
    return kept


def _require_address(host: str, world_size: str) -> None:
    """See that the first rank's node can be found: torch would try for half an hour. torchrun gives this node's own
    name, which a container, or a laptop on a VPN, may not know.
    """
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        if os.environ.get("LOCAL_WORLD_SIZE") != world_size:
            raise UserError(f"MASTER_ADDR={host} is no host that this node knows ({error.strerror}): give torchrun an "
                            "address with --local-addr, or the first node's with --rdzv-endpoint") from None
        if os.environ.get("LOCAL_RANK", "0") == "0":
            log.warning("%s is no host that this node knows: its ranks meet at 127.0.0.1", host)
        os.environ["MASTER_ADDR"] = "127.0.0.1"
