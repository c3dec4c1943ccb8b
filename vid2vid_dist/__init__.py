"""Distributed video-to-video GAN training.

    import vid2vid_dist as v
    model = v.load("runs/street")            # a run folder or an export
    for frame in model.frames(label_maps, first=pictures): …

What it gives is imported when it is first used: commands start without it, and a part that is not installed is missed
where it is wanted.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vid2vid_dist.api import ShardedVideos as ShardedVideos
    from vid2vid_dist.api import TrainedModel as TrainedModel
    from vid2vid_dist.api import load as load
    from vid2vid_dist.config.load import load_config as load_config
    from vid2vid_dist.errors import UserError as UserError
    from vid2vid_dist.models.generator import Generator as Generator

__version__ = "0.1.0"

_HOMES = {"load": "api", "TrainedModel": "api", "ShardedVideos": "api", "Generator": "models.generator",
          "load_config": "config.load", "UserError": "errors"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
