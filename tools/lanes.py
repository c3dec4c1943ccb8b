"""A step's lanes from given frames, for benchmarks, parity and tests: what the trainer makes of shards."""

import torch

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.tensors import FrameSize
from vid2vid_dist.engine.run.clip import ClipInFlight
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.models.temporal import frames_kept
from vid2vid_dist.network_input import encode_flows, encode_inputs, encode_pictures


def clip_of(cfg: Config, frames: list[Frames], device: torch.device) -> ClipInFlight:
    """A clip (several that are normalised together) of which every frame is there, the given ones first; `flows`, if
    there are any, are those of the generated frames from the one before."""
    clip = ClipInFlight(cfg.generator.n_scales_spatial, FrameSize(len(frames), *frames[0].labels.shape[-2:]))
    n_past, dtype = cfg.generator.n_frames_G - 1, DTYPES[cfg.optim.precision]
    numbers = range(-n_past, len(frames[0].names) - n_past)
    clip.add_labels(numbers, encode_inputs(cfg, frames, device, dtype))
    clip.add_real(numbers, encode_pictures(frames, device, dtype))
    if frames[0].flows is not None:
        clip.add_flows([(i, 1) for i in range(len(frames[0].flows))], encode_flows(frames, device))
    return clip


def advance(cfg: Config, part: LanePart) -> None:
    """Go on to the next chunk of a lane's clip."""
    kept = frames_kept(cfg.discriminator, part.clip.n_seen + part.n_frames)
    part.clip.advance(part.n_frames, cfg.generator.n_frames_G - 1, kept)
