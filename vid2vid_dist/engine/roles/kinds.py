"""The tensors that the generator makes: those of its branches, and those that critics judge."""

from __future__ import annotations

from functools import partial

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.tensors import FLOW, RAW, WEIGHT, TensorKind, What, image

# Each of a scale.
label_features = partial(TensorKind, What.LABELS)
trunk = partial(TensorKind, What.TRUNK)
synthesised = partial(TensorKind, What.SYNTHESISED)
warped = partial(TensorKind, What.WARPED)
features = partial(TensorKind, What.FEATURES)
flow_features = partial(TensorKind, What.FLOW_FEATURES)
foreground = partial(TensorKind, What.FOREGROUND)
fg_features = partial(TensorKind, What.FG_FEATURES)
style = partial(TensorKind, What.STYLE)


def shown_kinds(cfg: Config) -> list[TensorKind]:
    """What is made of a frame at the finest scale, the frame first."""
    return [image(cfg.generator.n_scales_spatial - 1), RAW, *([] if cfg.generator.no_flow else [FLOW, WEIGHT])]


def judged_kinds(cfg: Config) -> list[TensorKind]:
    """The frames that critics judge, the blended and the purely synthesised one; without flow they are the same."""
    return shown_kinds(cfg)[: 1 if cfg.generator.no_flow else 2]
