"""Under torchrun: launch/train.py with a discriminator that breaks on rank 2 in the third step."""

from __future__ import annotations

import os

from vid2vid_dist.cli import train
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.engine.plan.tasks import Task
from vid2vid_dist.engine.roles.critic_tasks import ImageTasks
from vid2vid_dist.engine.run.tensor_store import TaskTensors

run = ImageTasks.run


def break_down(self: ImageTasks, task: Task) -> TaskTensors:
    if os.environ["RANK"] == "2" and self.store.lane(task.lane).buffer.n_seen >= 4:
        raise ArithmeticError("the discriminator is ill")
    return run(self, task)


ImageTasks.run = break_down  # type: ignore[method-assign]

if __name__ == "__main__":
    run_main(train.main)
