"""Under torchrun: launch/train.py with a discriminator that breaks on rank 2 in the third step."""

import os

from vid2vid_dist.cli import train
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.engine.plan.tasks import Task
from vid2vid_dist.engine.roles.image import ImageRole
from vid2vid_dist.engine.run.tensor_store import TaskTensors, TensorStore

run = ImageRole.run


def break_down(self: ImageRole, task: Task, step: TensorStore) -> TaskTensors:
    if os.environ["RANK"] == "2" and step.lane(task.lane).clip.n_seen >= 4:
        raise ArithmeticError("the discriminator is ill")
    return run(self, task, step)


ImageRole.run = break_down  # type: ignore[method-assign]

if __name__ == "__main__":
    run_main(train.main)
