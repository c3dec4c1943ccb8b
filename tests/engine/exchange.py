"""Under torchrun: three ranks exchange tensors by `Transport`; rank 0 prints what it found.

    exchange.py all      every rank sends to every other before it receives, twice, several formats
    exchange.py silent   rank 1 owes rank 0 a message and never sends it
"""

from __future__ import annotations

import sys
from datetime import timedelta

import torch

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.engine.run.transport import Transport, TransportError

FORMATS = (torch.float64, torch.float32, torch.bfloat16)


def tensors(source: int, destination: int, turn: int) -> list[torch.Tensor]:
    """What one rank sends another: transposed, so not contiguous; large enough not to fit any buffer."""
    value = 100 * source + 10 * destination + turn
    return [torch.full((3, 200, 1000), float(value), dtype=dtype).transpose(1, 2) for dtype in FORMATS]


def main() -> None:
    grid = open_grid("cpu").in_pipelines(3)
    transport = Transport(grid, timedelta(seconds=3 if sys.argv[1] == "silent" else 60))
    transport.step = 7
    others = [slot for slot in range(3) if slot != grid.slot]
    if sys.argv[1] == "all":
        sent = [transport.send(to, tensors(grid.slot, to, turn), "x") for turn in range(2) for to in others]
        for turn in range(2):
            for source in others:
                expected = tensors(source, grid.slot, turn)
                like = [(tuple(x.shape), x.dtype) for x in expected]
                found = transport.receive(source, like, "x").wait()
                assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        for message in sent:
            message.wait()
        print("all equal", flush=True)
    elif grid.is_first:
        try:
            transport.receive(1, [((2, 2), torch.float32)], "synthesis lane 0 frame 1 scale 0").wait()
        except TransportError as error:
            print(error, flush=True)
        sys.exit(1)  # the launcher ends the others
    grid.close()


if __name__ == "__main__":
    run_main(main)
