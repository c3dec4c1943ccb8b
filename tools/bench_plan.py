"""The schedule table: speed-up of planned steps over the serial schedule, for the street recipes on 8 ranks.

    python -m tools.bench_plan            one line per recipe and number of lanes, what is known beside it
"""

from __future__ import annotations

from dataclasses import dataclass

from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config


@dataclass(frozen=True)
class Recipe:
    """A street recipe of the original on 8 GPUs, and what is known of its schedule."""

    n_scales_spatial: int
    num_D: int
    n_frames: int  # generated frames per chunk, T
    n_generator: int  # of 8 GPUs; the others hold the discriminators


RECIPES = {512: Recipe(1, 2, 6, 6), 1024: Recipe(2, 3, 4, 4), 2048: Recipe(3, 4, 4, 4)}


def street(size: int, overrides: list[str] | None = None) -> Config:
    """The street configuration for frames of `size` x `size`/2, as far as costs depend on it.

    One frame per pass of the image discriminator: the original's grouping with as many discriminator GPUs as
    frames, and what lets it start with the first frame.
    """
    recipe = RECIPES[size]
    return load_config(None, [
        "data.use_instance=true", "generator.fg=true", f"generator.n_scales_spatial={recipe.n_scales_spatial}",
        f"discriminator.num_D={recipe.num_D}", "discriminator.frames_per_pass=1", "flow.network=raft_large",
        "optim.precision=bf16", f"data.loadSize={size}",
        f"schedule.n_generator_slots={recipe.n_generator}", f"schedule.n_frames_total={recipe.n_frames}",
        f"schedule.max_frames_per_rank={recipe.n_frames // recipe.n_generator}", *(overrides or [])])
