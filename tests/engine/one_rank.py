"""One rank that runs the whole step of small networks, and notes what its tasks make and which gradients it finds."""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from tests.engine.placed_clips import StandInFeatures
from tests.engine.spread_clips import SMALL
from tools.lanes import advance
from tools.parity.trace import StandInFlow
from vid2vid_dist.config.load import load_config
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.role import RateGroup
from vid2vid_dist.engine.plan.schedule import in_order
from vid2vid_dist.engine.plan.tasks import LaneChunk, StepShape, Task
from vid2vid_dist.engine.plan.tensors import Part, TensorKind
from vid2vid_dist.engine.roles.build import build_modules, build_roles, role_specs
from vid2vid_dist.engine.run.clip import ClipInFlight
from vid2vid_dist.engine.run.executor import Executor, Role, StepResult
from vid2vid_dist.engine.run.grid import solo_grid
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.engine.run.tensor_store import LanePart, TaskTensors, TensorStore
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.models.precision import DTYPES


@dataclass
class Watched:
    """A role, and what its tasks have made in a step, in their order."""

    role: Role
    made: list[tuple[Part, Tensor]] = field(default_factory=list)

    @property
    def engine(self) -> RoleEngine | None:
        return self.role.engine

    def run(self, task: Task, step: TensorStore) -> TaskTensors:
        made = self.role.run(task, step)
        self.made += made.items()
        return made


class OneRank:
    """All roles of a configuration, by name. `flow`: in place of a stand-in."""

    def __init__(self, *overrides: str, flow: nn.Module | None = None, precision: str = "fp64") -> None:
        self.cfg = load_config(None, [*SMALL, "optim.backend=plain", *overrides])
        self.cfg.optim.precision = precision  # no user trains in bf16 without float32 master weights
        self.specs, self.dtype = role_specs(self.cfg), DTYPES[self.cfg.optim.precision]
        self._layout, grid = colocated(self.specs, 1), solo_grid()
        roles = build_roles(
            self.specs, grid.holders(self._layout.slots), build_modules(self.specs),
            {"flow": flow or StandInFlow(), "perceptual": StandInFeatures()},
            dict.fromkeys(RateGroup, partial(torch.optim.SGD, lr=0.0)))  # which leaves the weights as they are
        self.roles = {name: Watched(role) for name, role in roles.items()}
        self.executor = Executor(self.roles, self.specs.shapes(), 0, Transport(grid), self.dtype, self.specs.buckets)

    def module(self, role: str) -> nn.Module:
        return self.executor.engines()[role].module

    def step(self, clip: ClipInFlight, n_frames: int, n_frames_bp: int = 1) -> StepResult:
        """A step on the next frames of a clip."""
        for role in self.roles.values():
            role.made.clear()
        chunk = LaneChunk(clip.n_seen, n_frames)
        shape = StepShape((chunk,), n_frames_bp=n_frames_bp)
        plan = in_order(step_tasks(self.specs, shape, whole_chunks=True), self._layout)
        part = LanePart(clip, n_frames, 1.0)
        result = self.executor.step(plan, shape, [part], self.specs.active(chunk))
        advance(self.cfg, part)
        return result

    def gradients(self, role: str) -> dict[str, Tensor]:
        """Of a role's weights in the last step."""
        return {name: p.grad.clone() for name, p in self.module(role).named_parameters() if p.grad is not None}

    def made(self, role: str, kind: TensorKind) -> Tensor:
        """What a role made of all frames of the last step, (B, F, C, h, w)."""
        found = {part.frame: x for part, x in self.roles[role].made if part.kind == kind}
        return torch.stack([found[frame] for frame in sorted(found)], dim=1)
