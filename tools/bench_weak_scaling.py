"""Weak scaling on paper: steps of the street recipes on 8 to 1,024 GPUs, clips per step growing with the GPUs.

    python -m tools.bench_weak_scaling                   print the tables
    python -m tools.bench_weak_scaling docs/scaling.md   put them there, and the drawing beside; a minute or two

Pipelines are alike, so the plan of 8 GPUs is made once and replicated: more GPUs change what reductions and updates
take, by `Machine`, and the simulator says how much of that the tasks hide. A step ends with its slowest pipeline.
"""

import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tools.bench_plan import JITTER
from tools.plots import draw
from tools.recipe_table import Chosen, Recipe, chosen, placement_of, put_between
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.engine.plan.schedule import Plan
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.step_graph import task_seconds
from vid2vid_dist.engine.plan.tasks import Kind

BEGIN, END = "<!-- weak: make bench-weak-scaling DOC=docs/scaling.md -->", "<!-- /weak -->"
PICTURE = "images/weak_scaling.png"
FIRST = 8
N_GPUS = tuple(FIRST * 2**doubled for doubled in range(8))
RECIPES = tuple(f"street/{recipe}.yaml" for recipe in ("512", "1024", "2048", "modern/512", "modern/1024",
                                                       "modern/2048"))
N_STEPS = 32  # of one pipeline, at least, of which a mean is taken where times vary
EFFICIENT = 0.9


@dataclass(frozen=True)
class Point:
    """A step on so many GPUs, in seconds: the whole; what of it waits for reductions that no task hides; the updates;
    the longest reduction, of `role`. `uneven`: the whole where task times vary by `JITTER`."""

    n_gpus: int
    n_clips: int
    step: float
    uneven: float
    waiting: float
    updates: float
    reduction: float
    role: str


def points(found: Chosen, counts: Sequence[int] = N_GPUS) -> Iterator[Point]:
    """The chosen plan of a recipe, replicated."""
    plan, request = found.choice.plan, found.request
    for n_gpus in counts:
        n_pipelines = found.choice.n_pipelines * n_gpus // request.n_ranks
        alike = replace(plan, n_pipelines=n_pipelines,
                        durations=task_seconds(plan.tasks, plan.layout, found.costs, n_pipelines))
        prediction = simulate(alike)
        tasks, reduced, updated = (max(run.end for run in prediction.timeline if of(run.task.kind)) for of in (
            lambda kind: kind not in (Kind.REDUCE, Kind.UPDATE), lambda kind: kind == Kind.REDUCE,
            lambda kind: kind == Kind.UPDATE))
        longest, role = max((alike.durations[task.number], task.role) for task in plan.tasks
                            if task.kind == Kind.REDUCE)
        n_clips = request.n_lanes * found.specs.cfg.parallel.batch_size * n_gpus // request.n_ranks
        yield Point(n_gpus, n_clips, prediction.period, _uneven(alike), max(0.0, reduced - tasks),
                    updated - max(tasks, reduced), longest, role)


def _uneven(plan: Plan) -> float:
    """The mean of some steps, each as long as that of the slowest of its pipelines."""
    n = plan.n_pipelines
    steps = [simulate(plan, jitter=JITTER, seed=seed).period for seed in range(n * -(-N_STEPS // n))]
    return statistics.mean(max(steps[first : first + n]) for first in range(0, len(steps), n))


def table(recipe: str, of: Sequence[Point]) -> Iterator[str]:
    """Of one recipe, and what it says."""
    head = ("GPUs", "Clips per step", "ms per step", "Efficiency", f"with times ±{JITTER:.0%}",
            "Longest reduction, ms", "waited for, ms", "Updates, ms")
    yield from ("| " + " | ".join(head) + " |", "|---" * len(head) + "|")
    for point in of:
        yield (f"| {point.n_gpus} | {point.n_clips} | {1e3 * point.step:.1f} | {of[0].step / point.step:.1%} | "
               f"{of[0].uneven / point.uneven:.1%} | {1e3 * point.reduction:.1f}, {point.role} | "
               f"{1e3 * point.waiting:.1f} | {1e3 * point.updates:.2f} |")
    last = of[-1]
    good = [point.n_gpus for point in of if of[0].uneven / point.uneven >= EFFICIENT]
    lost = last.step - of[0].step
    yield ""
    yield (f"`{recipe}` stays above {EFFICIENT:.0%}, with uneven times, "
           + (f"to {last.n_gpus} GPUs" if good[-1] == last.n_gpus else f"up to {good[-1]} GPUs")
           + f". At {last.n_gpus} a step takes {1e3 * lost:.1f} ms more than at {of[0].n_gpus}: waiting for the "
             f"reductions {1e3 * (last.waiting - of[0].waiting):+.1f}, updates "
             f"{1e3 * (last.updates - of[0].updates):+.1f}. The slowest of the pipelines adds "
             f"{1e3 * (last.uneven - of[0].uneven - lost):.1f}.")


def section(recipe: str) -> tuple[str, list[Point]]:
    """A recipe's part of the page, and its points."""
    found = chosen(Recipe(recipe, FIRST))
    of = list(points(found))
    parameters = sum(found.costs.parameters.values()) / 1e6
    title = (f"### {recipe.removesuffix('.yaml')}\n\n{placement_of(found.choice)} on each {FIRST} GPUs, "
             f"{found.specs.cfg.optim.precision}, {parameters:.0f} million parameters.\n")
    return "\n".join([title, *table(recipe, of)]), of


def main() -> None:
    lines, sections = {}, []
    for recipe in RECIPES:
        text, of = section(recipe)
        print(text, flush=True)
        sections.append(text)
        lines[recipe.removesuffix(".yaml")] = ([point.n_gpus for point in of],
                                               [100 * of[0].uneven / point.uneven for point in of])
    if len(sys.argv) > 1:
        page = Path(sys.argv[1])
        draw(page.parent / PICTURE, "GPUs", "efficiency, %", lines, both_logarithmic=False)
        put_between(page, BEGIN, END, "\n\n".join(sections))


if __name__ == "__main__":
    run_main(main)
