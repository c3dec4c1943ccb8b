"""Under torchrun: launch/train.py with a gradient of a discriminator that is NaN on rank 2, in the
clips of steps 3 and 5."""

import os

from torch import Tensor

from vid2vid_dist.cli import train
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.training.trainer import Trainer

run = Trainer.run
seen: dict[int, int] = {}


def run_ill(self: Trainer) -> None:
    def spoil(gradient: Tensor) -> Tensor:
        after = self.faults.step_input.after
        nonfinite = after.step in (2, 4) and after.round == seen.setdefault(after.step, after.round)
        return gradient * float("nan") if nonfinite else gradient

    if os.environ["RANK"] == "2":
        engine = self.state.engines()["image"]
        next(p for p in engine.module.parameters() if p.requires_grad).register_hook(spoil)
    run(self)


Trainer.run = run_ill  # type: ignore[method-assign]

if __name__ == "__main__":
    run_main(train.main)
