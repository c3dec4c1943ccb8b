"""Under torchrun: launch/train.py with a discriminator that asks for more memory than there is, on
the last rank in step 3."""

import os

import torch

from vid2vid_dist.cli import train
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.engine.plan.tasks import Task
from vid2vid_dist.engine.roles.image import ImageRole
from vid2vid_dist.engine.run.tensor_store import TaskTensors, TensorStore

run = ImageRole.run


def ask_for_too_much(self: ImageRole, task: Task, step: TensorStore) -> TaskTensors:
    if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1 and step.lane(task.lane).clip.n_seen >= 4:
        torch.empty(2**50)
    return run(self, task, step)


ImageRole.run = ask_for_too_much  # type: ignore[method-assign]

if __name__ == "__main__":
    run_main(train.main)
