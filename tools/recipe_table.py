"""The README's table of recipes: what the planner says of each on the GPUs that it is made for.

    python -m tools.recipe_table             print the table
    python -m tools.recipe_table README.md   put it between the marks in a file; takes a minute
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.plan import typical_size
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.recipes import RECIPES
from vid2vid_dist.engine.plan.costs import Costs, count_costs
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.search import Choice, PlanRequest, choose
from vid2vid_dist.engine.plan.tensors import FrameSize
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.errors import UserError
from vid2vid_dist.monitor.plan_report import GB
from vid2vid_dist.monitor.serial_schedule import serial_seconds
from vid2vid_dist.training.curriculum import n_epochs, phase

BEGIN, END = "<!-- recipes: python -m tools.recipe_table README.md -->", "<!-- /recipes -->"


@dataclass(frozen=True)
class Recipe:
    """A file below configs/, the GPUs that it is made for, and the longest video that the task is trained on."""

    file: str
    n_gpus: int
    longest: int = 30  # frames


TABLE = (
    Recipe("street/512.yaml", 8),
    Recipe("street/512_no_fg.yaml", 8),
    Recipe("street/512_batch.yaml", 8),
    Recipe("street/1024.yaml", 8),
    Recipe("street/2048.yaml", 8),
    Recipe("street/2048_crop.yaml", 8),
    Recipe("street/g1_256.yaml", 1),
    Recipe("street/g1_512.yaml", 1),
    Recipe("street/g1_1024.yaml", 1),
    Recipe("street/modern/512.yaml", 8),
    Recipe("street/modern/1024.yaml", 8),
    Recipe("street/modern/2048.yaml", 8),
    Recipe("single_image/global.yaml", 8),
    Recipe("single_image/local.yaml", 8),
    Recipe("single_image/features.yaml", 8, 128),
    Recipe("face/512.yaml", 8, 128),
    Recipe("face/512_bs7.yaml", 7, 128),
    Recipe("face/g1_256.yaml", 1, 128),
    Recipe("face/g1_512.yaml", 1, 128),
    Recipe("pose/256.yaml", 8, 128),
    Recipe("pose/512.yaml", 8, 128),
    Recipe("pose/1024.yaml", 8, 128),
    Recipe("pose/g1_256.yaml", 1, 128),
    Recipe("pose/g1_512.yaml", 1, 128),
    Recipe("pose/g1_1024.yaml", 1, 128),
)


@dataclass(frozen=True)
class Chosen:
    """What the planner says of a recipe."""

    specs: RoleSpecs
    costs: Costs
    request: PlanRequest
    choice: Choice
    size: FrameSize


def chosen(recipe: Recipe) -> Chosen:
    """The plan of its last epoch's steps."""
    cfg = load_config(RECIPES / recipe.file)
    last = phase(cfg, n_epochs(cfg), recipe.longest)
    source_width, source_height = cfg.parallel.source_size
    width, height = typical_size((source_width, source_height), cfg.data)
    specs = role_specs(cfg)
    costs = count_costs(specs, height, width)
    request = PlanRequest(recipe.n_gpus, cfg.parallel.n_lanes(recipe.n_gpus), last.chunk_frames,
                          cfg.parallel.placement, cfg.parallel.pipelines, n_frames_bp=last.n_frames_bp)
    return Chosen(specs, costs, request, choose(specs, costs, request),
                  FrameSize(cfg.parallel.batch_size, height, width))


def row(recipe: Recipe) -> str:
    """One line of the table."""
    found = chosen(recipe)
    cfg, costs, request, choice = found.specs.cfg, found.costs, found.request, found.choice
    n_generator = min(cfg.schedule.n_generator_slots, max(1, recipe.n_gpus - 1))
    serial = serial_seconds(cfg, costs, request.n_lanes, request.n_frames, n_generator,
                            max(1, recipe.n_gpus - n_generator))
    period = choice.prediction.period
    n_clips = request.n_lanes * cfg.parallel.batch_size
    cells = (f"`{recipe.file}`", f"{found.size.width}×{found.size.height}", f"{n_clips} × {request.n_frames}",
             recipe.n_gpus,
             placement_of(choice), f"{choice.peak / GB:.0f}", f"{1e3 * period:.0f}",
             # The original runs whole clips side by side here too: there is no serial schedule to compare with.
             "" if choice.plan.layout.n_slots == 1 < recipe.n_gpus else f"{serial / period:.1f}×")
    return "| " + " | ".join(map(str, cells)) + " |"


def placement_of(choice: Choice) -> str:
    """What a plan is called."""
    if choice.plan.layout.n_slots == 1:
        return "one rank" if choice.n_pipelines == 1 else "data parallel"
    return choice.plan.layout.name + (f", {choice.n_pipelines} pipelines" if choice.n_pipelines > 1 else "")


def table() -> str:
    head = ("Recipe", "Frames", "Clips × frames per step", "GPUs", "Placement", "GB per GPU", "ms per step",
            "Against serial")
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *map(row, TABLE)])


def main() -> None:
    if len(sys.argv) < 2:
        print(table())
        return
    put_between(Path(sys.argv[1]), BEGIN, END, table())


def put_between(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks in a file; raises UserError where they are not."""
    before, has_begin, rest = path.read_text().partition(begin)
    _, has_end, after = rest.partition(end)
    if not (has_begin and has_end):
        raise UserError(f"{path} has no place for the table: write the lines {begin} and {end}")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


if __name__ == "__main__":
    run_main(main)
