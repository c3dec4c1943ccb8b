"""The data tasks by name, and the rules of the configuration that depend on them."""

from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.tasks.base import DataTask
from vid2vid_dist.data.tasks.face import FACE
from vid2vid_dist.data.tasks.pose import POSE
from vid2vid_dist.data.tasks.street import STREET
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import shown

TASKS = {task.name: task for task in (STREET, FACE, POSE)}
KINDS = {kind: task for task in TASKS.values() for kind in task.kinds or (task.name,)}
"""What the input of a shard folder is -> whose shards they are."""


def task_of(data: DataConfig) -> DataTask:
    """Raises `UserError` for the name of none."""
    if data.task not in TASKS:
        raise UserError(f"data.task={shown(data.task)} must be one of {' | '.join(TASKS)}")
    return TASKS[data.task]


def check_task(cfg: Config) -> None:
    """Raise `UserError` for a configuration that its task cannot go with, with the fix in the words."""
    data, task = cfg.data, task_of(cfg.data)
    channels = task.channels(data)
    if (data.label_nc and task.labels is None) or (not data.label_nc and data.input_nc != channels):
        raise UserError(f"data.task={task.name} draws {channels} channels here: set data.label_nc=0, "
                        f"data.input_nc={channels}")
    if cfg.generator.style_nc and not data.label_nc and task.parts is None:
        known = ", ".join(task.name for task in TASKS.values() if task.parts)
        raise UserError("generator.style_nc needs label maps, or a task whose parts are known: set data.label_nc > 0, "
                        f"data.task={known} or generator.style_nc=0")
    marker = task.head_marker and task.head_marker(data)
    if cfg.discriminator.add_face_disc and cfg.discriminator.face_marker != marker:
        fix = f"discriminator.face_marker={marker}" if marker else "discriminator.add_face_disc=false"
        raise UserError("discriminator.add_face_disc is for input that has what discriminator.face_marker looks for: "
                        f"with data.task={task.name} as it is here set {fix}")
