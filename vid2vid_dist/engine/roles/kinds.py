"""What of a generated frame is shown, and what critics judge."""

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.tensors import FLOW, RAW, WEIGHT, TensorKind, image


def shown_kinds(cfg: Config) -> list[TensorKind]:
    """What is made of a frame at the finest scale, the frame first."""
    return [image(cfg.generator.n_scales_spatial - 1), RAW, *([] if cfg.generator.no_flow else [FLOW, WEIGHT])]


def judged_kinds(cfg: Config) -> list[TensorKind]:
    """The frames that critics judge, the blended and the purely synthesised one; without flow they are the same."""
    return shown_kinds(cfg)[: 1 if cfg.generator.no_flow else 2]
