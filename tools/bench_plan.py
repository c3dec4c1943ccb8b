"""The schedule table: speed-up of planned steps over the serial schedule, for the street recipes on 8 ranks.

    python -m tools.bench_plan     one line per recipe and number of lanes: with exact task times, with varying
                                   ones, and in brackets what is known of such schedules; takes about a minute
"""

from dataclasses import dataclass, replace

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.costs import Costs, count_costs
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.search import PlanRequest, choose
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.tasks import Kind
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.monitor.serial_schedule import serial_seconds

N_RANKS = 8
JITTER = 0.05  # relative spread of task times that a plan has to stand
PLACEMENTS = ("split", "colocated", "data_parallel")


@dataclass(frozen=True)
class Recipe:
    """A street recipe of the original on 8 GPUs, and what is known of its schedule."""

    n_scales_spatial: int
    num_D: int
    n_frames: int  # generated frames per chunk, T
    n_generator: int  # of 8 GPUs; the others hold the discriminators
    known_flow: float  # modelled ms of RAFT per frame, in bf16
    known_serial: dict[int, float]  # ms of the serial schedule by lanes
    known_speedup: dict[int, tuple[float, float, float]]  # of PLACEMENTS by lanes, under 5 % jitter


RECIPES = {
    512: Recipe(1, 2, 6, 6, 1.7, {1: 93.7, 2: 182.7, 4: 360.7, 8: 716.6},
                {1: (2.3, 2.3, 0.6), 2: (3.2, 4.2, 1.2), 4: (3.9, 4.8, 2.4), 8: (4.1, 4.8, 4.7)}),
    1024: Recipe(2, 3, 4, 4, 5.7, {1: 148.0, 2: 291.3, 4: 577.8, 8: 1150.8},
                 {1: (2.3, 2.5, 0.6), 2: (3.5, 4.5, 1.2), 4: (4.1, 4.9, 2.5), 8: (4.4, 4.9, 4.9)}),
    2048: Recipe(3, 4, 4, 4, 27.0, {1: 407.6, 2: 810.4, 4: 1616.0, 8: 3227.1},
                 {1: (3.7, 3.6, 0.7), 2: (4.7, 5.4, 1.4), 4: (4.9, 5.6, 2.8), 8: (5.0, 5.6, 5.5)}),
}


def street(size: int, overrides: list[str] | None = None) -> Config:
    """The street configuration for frames of `size` x `size`/2, as far as costs depend on it.

    One frame, or one group, per pass of a discriminator: the original's grouping with as many discriminator GPUs as
    frames, and what lets it start with the first frame.
    """
    recipe = RECIPES[size]
    return load_config(None, [
        "data.use_instance=true", "generator.fg=true", f"generator.n_scales_spatial={recipe.n_scales_spatial}",
        f"discriminator.num_D={recipe.num_D}", "discriminator.frames_per_pass=1",
        "discriminator.groups_per_pass=1", "flow.network=raft_large",
        "optim.precision=bf16", f"data.loadSize={size}",
        f"schedule.n_generator_slots={recipe.n_generator}", f"schedule.n_frames_total={recipe.n_frames}",
        f"schedule.max_frames_per_rank={recipe.n_frames // recipe.n_generator}", *(overrides or [])])


def known_costs(size: int) -> tuple[RoleSpecs, Costs]:
    """A recipe and its costs, with reference flow in bf16 as in the known figures (here it runs in float32)."""
    specs = role_specs(street(size))
    costs = count_costs(specs, size // 2, size)
    seconds = RECIPES[size].known_flow / 1e3
    return specs, replace(costs, measured={key: seconds for key in costs.work if key.kind == Kind.REFERENCE})


def main() -> None:
    print(f"Speed-up over the serial schedule on {N_RANKS} modelled H100, with exact task times and with times that\n"
          f"vary by {JITTER:.0%}; in brackets what is known. Busy: split, colocated, data parallel.\n")
    print("size  lanes         serial ms   split             colocated         data parallel     split as      busy")
    for size, recipe in RECIPES.items():
        specs, costs = known_costs(size)
        for n_lanes, serial_known in recipe.known_serial.items():
            serial = serial_seconds(specs.cfg, costs, n_lanes, recipe.n_frames, recipe.n_generator,
                                    N_RANKS - recipe.n_generator)
            line = f"{size:4d}  {n_lanes:5d}  {1e3 * serial:6.1f} ({serial_known:6.1f})"
            found = []
            for placement, known in zip(PLACEMENTS, recipe.known_speedup[n_lanes], strict=True):
                choice = choose(specs, costs, PlanRequest(N_RANKS, n_lanes, recipe.n_frames, placement))
                spread = simulate(choice.plan, n_steps=22, jitter=JITTER, seed=1)
                found.append((choice, spread))
                steady = serial / choice.prediction.period
                line += f"   {steady:4.2f} {serial / spread.period:4.2f} ({known:3.1f})"
            busy = " ".join(f"{spread.mean_busy:4.0%}" for _, spread in found)
            split = found[0][0]
            shape = split.plan.layout.name.removeprefix("split ")
            print(f"{line}   {split.n_pipelines}x({shape})  {busy}", flush=True)


if __name__ == "__main__":
    run_main(main)
