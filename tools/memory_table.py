"""Live bytes of a real step of every recipe at full size, counted, against what the planner says.

    python -m tools.memory_table [RECIPE …] [--all-slots]

The step's tasks run on meta tensors, which have sizes and no values, rank by rank, with what other ranks would send;
a tensor counts from its making until nobody holds it. Beside it stands the plan without what is not tensors of the
step: context, optimiser shards, the average. Of a pipeline's ranks the fullest of the generator's and of the others'.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tools.recipe_table import TABLE, Chosen, Recipe, chosen
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.counting import Traffic
from vid2vid_dist.engine.plan.memory import average_bytes
from vid2vid_dist.engine.plan.role import GENERATOR, RoleSpecs
from vid2vid_dist.engine.plan.schedule import Plan, needed_frames
from vid2vid_dist.engine.plan.tasks import LaneChunk, steady_shape
from vid2vid_dist.engine.plan.tensors import FrameSize, Part, TensorKind, TensorShape
from vid2vid_dist.engine.roles.build import build_modules
from vid2vid_dist.engine.run.clip import ClipInFlight
from vid2vid_dist.engine.run.executor import Executor
from vid2vid_dist.engine.run.grid import solo_grid
from vid2vid_dist.engine.run.optimizer import Gradients, Tensors, trained_parameters
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.engine.run.transport import Pending
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.compute_options import compute_options_from
from vid2vid_dist.models.flow import RaftFlow, ReferenceFlow, raft_network
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import Extent
from vid2vid_dist.models.perceptual import VGG19Features
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.monitor.plan_report import GB
from vid2vid_dist.network_input import encode_inputs, encode_pictures

META = torch.device("meta")


class Messages:
    """In the place of a `Transport`: what is sent goes nowhere, what is received is there."""

    step = 0

    def __init__(self) -> None:
        self.grid = solo_grid(META)

    def send(self, slot: int, tensors: list[Tensor], task: str) -> Pending:
        return Pending([tensor.detach().contiguous() for tensor in tensors], [], task, None)

    def receive(self, slot: int, like: list[tuple[tuple[int, ...], torch.dtype]], task: str) -> Pending:
        return Pending([torch.empty(shape, dtype=dtype, device=META) for shape, dtype in like], [], task, None)


class Engine:
    """Gradients are summed up; there is no optimiser."""

    gradient_norm = torch.zeros(())
    update_norm = torch.zeros(())

    def __init__(self, module: nn.Module, n_buckets: int) -> None:
        self.module, self.n_buckets = module, n_buckets
        parameters = trained_parameters(module)
        weights = parameters_to_vector(parameters).detach()
        vector_to_parameters(weights, parameters)
        self._gradients = Gradients([parameters], weights)

    def begin(self) -> None: ...

    def reduce(self, bucket: int) -> None: ...

    def backward(self, outputs: Tensors, gradients: Tensors | None = None,
                 leaves: Sequence[Tensor] = ()) -> Sequence[Tensor | None]:
        return self._gradients.add(outputs, gradients, leaves)

    def step(self, refused: Tensor | None = None) -> None: ...


class Made(dict[Part, Tensor]):
    """What earlier steps have left, made when it is asked for."""

    def __init__(self, shapes: dict[TensorKind, TensorShape], size: FrameSize, dtype: torch.dtype) -> None:
        self._shapes, self._size, self._dtype = shapes, size, dtype

    def __missing__(self, part: Part) -> Tensor:
        shape = self._shapes[part.kind]
        self[part] = torch.empty(shape.of(self._size), dtype=shape.dtype(self._dtype), device=META)
        return self[part]


class Live(Traffic):
    """Of the fullest moment also who has made what is alive."""

    def __init__(self) -> None:
        super().__init__()
        self.timer = Timer()
        self.holders: Counter[str] = Counter()
        self._alive: Counter[str] = Counter()
        self._makers: dict[int, str] = {}

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage.device.type == "cpu":  # decoded frames
            return
        maker = self.timer.current.partition(" lane")[0] or "weights, clips"
        self._makers[storage._cdata] = maker
        self._alive[maker] += storage.nbytes()
        before = self.peak
        super()._add(storage)
        if self.peak > before:
            self.holders = self._alive.copy()

    def _remove(self, number: int, n_bytes: int) -> None:
        self._alive[self._makers.pop(number)] -= n_bytes
        super()._remove(number, n_bytes)


@dataclass(frozen=True)
class Row:
    """Bytes of one rank."""

    recipe: str
    roles: str
    counted: float
    planned: float
    holders: Counter[str]

    def __str__(self) -> str:
        held = ", ".join(f"{name} {n / GB:.1f}" for name, n in self.holders.most_common(3))
        return (f"| `{self.recipe}` | {self.roles} | {self.counted / GB:.1f} | {self.planned / GB:.1f} | "
                f"{self.counted / self.planned - 1:+.0%} | {held} |")


def rows(recipe: Recipe, all_slots: bool) -> Iterator[Row]:
    """Of the wanted ranks of a recipe's plan."""
    found = chosen(recipe)
    specs, choice = found.specs, found.choice
    plan = choice.plan
    of_generator = set(plan.layout.slots[GENERATOR])
    totals = {slot: rank.total for slot, rank in enumerate(choice.memory)}
    kinds = [[slot for slot in totals if (slot in of_generator) is generates] for generates in (True, False)]
    slots = list(totals) if all_slots else [max(kind, key=totals.__getitem__) for kind in kinds if kind]
    for slot in slots:
        live = count(found, slot)
        planned = choice.memory[slot].by_cause
        average = average_bytes(specs.cfg, plan.costs) if plan.costs and slot == min(of_generator) else 0.0
        held = [role for role in plan.layout.slots if slot in plan.layout.slots[role]]
        yield Row(recipe.file, "all" if len(held) == len(plan.layout.slots) else ", ".join(held), live.peak,
                  choice.memory[slot].total - planned["context"] - planned["optimiser shard"] - average, live.holders)


def count(found: Chosen, slot: int) -> Live:
    """Run the part of a slot in a step in the middle of long clips."""
    specs, choice, n_frames = found.specs, found.choice, found.request.n_frames
    cfg, plan, dtype = specs.cfg, choice.plan, DTYPES[specs.cfg.optim.precision]
    shape = steady_shape(choice.lanes, n_frames, found.request.n_frames_bp, choice.in_flight,
                         flow_ahead=plan.layout.n_slots > 1)
    live, messages = Live(), Messages()
    with live, torch.device(META):
        roles = {}
        modules = build_modules(specs)
        for spec in specs.all:
            if spec.place or slot not in plan.layout.slots[spec.name]:
                continue
            module = modules[spec.name].to(dtype) if spec.rate is not None else _frozen(specs, spec.name, dtype)
            if isinstance(module, Generator):
                module.set_compute_options(compute_options_from(cfg.optim, on_cpu=False))
            roles[spec.name] = spec.at_work(module, None if spec.rate is None else Engine(module, spec.n_buckets))
        roles |= {spec.name: spec.at_work(None) for spec in specs.all
                  if spec.place and slot in plan.layout.slots[spec.place]}
        del modules
        lanes: list[LanePart | None] = [
            LanePart(_clip(specs, plan, slot, lane, chunk, found.size), n_frames, 1 / choice.lanes)
            for lane, chunk in enumerate(shape.lanes)]
        executor = Executor(roles, specs.shapes(), slot, cast(Any, messages), dtype, plan.reductions)
        live.timer = executor.timer
        executor.step(plan, shape, lanes, specs.active(shape.lanes[0]))
    return live


def _frozen(specs: RoleSpecs, role: str, dtype: torch.dtype) -> nn.Module:
    """A network that is not trained, without its published weights."""
    if role == "perceptual":
        return VGG19Features(models.vgg.make_layers(models.vgg.cfgs["E"], batch_norm=False)).to(dtype)
    if specs.cfg.flow.network.startswith("raft"):
        return ReferenceFlow(RaftFlow(raft_network(specs.cfg.flow.network)))
    network = specs[role].network()
    assert network is not None
    return network


def _clip(specs: RoleSpecs, plan: Plan, slot: int, lane: int, chunk: LaneChunk, size: FrameSize) -> ClipInFlight:
    cfg, dtype = specs.cfg, DTYPES[specs.cfg.optim.precision]
    clip = ClipInFlight(cfg.generator.n_scales_spatial, size, n_seen=chunk.n_seen,
                        made=Made(specs.shapes(), size, dtype))
    needed = needed_frames(specs, plan, slot, lane, chunk)
    for number in sorted(needed.labels):
        frames = [_frames(cfg.data.label_nc or 1, 1 if cfg.data.label_nc else cfg.data.input_nc, size)] * size.clips
        encoded = encode_inputs(cfg, frames, META, dtype)
        clip.add_labels([number], replace(encoded, faces=(Extent(8, 16, 8, 16),)))
    for number in sorted(needed.real):
        clip.add_real([number], encode_pictures([_frames(1, 1, size)] * size.clips, META, dtype))
    return clip


def _frames(n_classes: int, channels: int, size: FrameSize) -> Frames:
    def plane(channels: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(1, channels, size.height, size.width, dtype=dtype, device="cpu")

    return Frames(plane(channels, torch.uint8), plane(3, torch.uint8), plane(1, torch.int32), [""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="files below configs/ (default: all)")
    parser.add_argument("--all-slots", action="store_true", help="every rank of a pipeline")
    args = parser.parse_args()
    print("| Recipe | Rank | GB counted | GB planned | off | made by |\n|---|---|---|---|---|---|")
    for recipe in TABLE:
        if not args.recipes or recipe.file in args.recipes:
            for row in rows(recipe, args.all_slots):
                print(row, flush=True)


if __name__ == "__main__":
    run_main(main)
