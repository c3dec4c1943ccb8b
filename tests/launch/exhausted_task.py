"""Under torchrun: launch/train.py with a discriminator that asks for more memory than there is, on
the last rank in step 3."""

from __future__ import annotations

import os

import torch

from vid2vid_dist.cli import train
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.engine.plan.tasks import Task
from vid2vid_dist.engine.roles.critic_tasks import ImageTasks
from vid2vid_dist.engine.run.tensor_store import TaskTensors

run = ImageTasks.run


def ask_for_too_much(self: ImageTasks, task: Task) -> TaskTensors:
    if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1 and self.store.lane(task.lane).buffer.n_seen >= 4:
        torch.empty(2**50)
    return run(self, task)


ImageTasks.run = ask_for_too_much  # type: ignore[method-assign]

if __name__ == "__main__":
    run_main(train.main)
