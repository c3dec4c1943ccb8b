"""Under torchrun: three ranks exchange tensors by `Transport`, and say so; then rank 0 waits for one that stays away.

Every rank sends to every other before it receives, twice, several formats. Rank 1 owes rank 0 one more message, and
never sends it: rank 0 prints its error.
"""

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
    transport, mine = Transport(grid, timedelta(seconds=60)), grid.rank_in_pipeline
    others = [slot for slot in range(3) if slot != mine]
    sent = [transport.send(to, tensors(mine, to, turn), "x") for turn in range(2) for to in others]
    for turn in range(2):
        for source in others:
            expected = tensors(source, mine, turn)
            like = [(tuple(x.shape), x.dtype) for x in expected]
            found = transport.receive(source, like, "x").wait()
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    for message in sent:
        message.wait()
    print("all equal", flush=True)
    grid.barrier()
    impatient = Transport(grid, timedelta(seconds=3))
    impatient.step = 7
    if grid.is_first:
        try:
            impatient.receive(1, [((2, 2), torch.float32)], "generator synthesis lane 0 frame 1").wait()
        except TransportError as error:
            print(error, flush=True)
        sys.exit(1)  # the launcher ends the others
    grid.close()


if __name__ == "__main__":
    run_main(main)
