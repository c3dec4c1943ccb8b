"""What planning knows of a role: its tasks, the frames that they read, what they send and cost, its losses.

`engine/roles` holds one file for each; everything else loops over them and knows none by name but the generator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.counting import Work
from vid2vid_dist.engine.plan.tasks import Bucket, Kind, LaneChunk, NeededFrames, Site, Task
from vid2vid_dist.engine.plan.tensors import Part, TensorKind, TensorShape

if TYPE_CHECKING:
    from vid2vid_dist.engine.plan.graph import LaneTasks


class RateGroup(StrEnum):
    """Which of the curriculum's learning rates a trained role follows."""

    GENERATOR = "generator"
    DISCRIMINATOR = "discriminator"
    TEMPORAL = "temporal"


class Minimised(StrEnum):
    """Whose loss a term is part of."""

    BY_GENERATOR = "generator"
    BY_ITSELF = "itself"
    NOT = "not"  # only watched


class Loss(NamedTuple):
    """A logged term (spec: losses 8)."""

    name: str
    minimised: Minimised = Minimised.BY_GENERATOR


@dataclass(frozen=True)
class Counted:
    """Costs of a role for one clip: `work` of a unit by kind of task and scale, seconds in place of a model where they
    are known, and the sizes of its networks: trained parameters by bucket, frozen ones."""

    work: Mapping[tuple[Kind, int], Work] = field(default_factory=dict)
    seconds: Mapping[tuple[Kind, int], float] = field(default_factory=dict)
    n_trained: Sequence[int] = ()
    n_frozen: int = 0


@dataclass(frozen=True)
class Resolution:
    """Frames that costs are counted for: sides at the finest scale, number format, and whether a CPU runs them."""

    height: int
    width: int
    dtype: torch.dtype
    on_cpu: bool = False


class RoleSpec(ABC):
    """A role of a configuration.

    `colour`: of its tasks in drawings. `rate`: None where nothing is trained. `place`: the role on whose sites it runs,
    where it has none of its own. `works_ahead`: its tasks may also be added for the chunk of the next step, of which
    nothing is generated yet. `n_buckets`: in which its gradients are reduced. `module` and `engine`: of one that is at
    work.
    """

    name: str
    colour: str
    losses: tuple[Loss, ...] = ()
    rate: RateGroup | None = None
    place: str = ""
    works_ahead = False
    n_buckets = 1
    module: Any = None
    engine: Any = None

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg

    @property
    def finest(self) -> int:
        return self.cfg.generator.n_scales_spatial - 1

    @abstractmethod
    def add_tasks(self, lane: LaneTasks) -> None:
        """Add its tasks for a lane's chunk. Those of earlier roles (`RoleSpecs.all`) are there."""

    def add_backwards(self, lane: LaneTasks) -> None:
        """Add what waits for the gradients of all critics."""
        return

    def needed_next(self, lane: LaneTasks) -> Iterable[tuple[Part, Site]]:
        """What of this chunk, or of the chunk ahead, its sites read in the next step."""
        return ()

    def needed_flow(self, chunk: LaneChunk) -> Iterable[tuple[int, int]]:
        """Reference flow that its tasks read, made for this chunk: (frame, gap in frames)."""
        return ()

    @abstractmethod
    def needed_frames(self, task: Task, chunk: LaneChunk) -> NeededFrames:
        """Labels and real frames that one of its tasks reads."""

    @abstractmethod
    def count(self, resolution: Resolution) -> Counted:
        """What its tasks cost, from networks on the meta device."""

    def network(self) -> nn.Module | None:
        """Its network with freshly drawn or, where nothing is trained, with published weights, on the CPU.

        Raises `UserError` when a weights file is missing or not what it should be.
        """
        return None

    def bucket(self, kind: Kind, scale: int) -> int:
        """In which the gradients are that tasks of this kind leave."""
        return 0

    def weights(self, network: nn.Module) -> list[list[nn.Parameter]]:
        """Those of its network, by the bucket of their gradients."""
        return [list(network.parameters())]

    def at_work(self, module: nn.Module | None, engine: Any = None) -> Any:
        """The role as it runs on a rank (`run.executor.Role`), with its network and, where it is trained, the engine
        (`run.optimizer.RoleEngine`) around it."""
        found = copy(self)
        found.module, found.engine = module, engine
        return found

    def is_active(self, chunk: LaneChunk) -> bool:
        """Whether it has something to compute in a chunk."""
        return True

    def shapes(self) -> Mapping[TensorKind, TensorShape]:
        """Of the tensors that its tasks make, besides gradients, whose shapes follow."""
        return {}


@dataclass(frozen=True)
class RoleSpecs:
    """All roles of a configuration, in the order in which their tasks are added to a step."""

    cfg: Config
    all: tuple[RoleSpec, ...]

    def __getitem__(self, name: str) -> RoleSpec:
        return next(spec for spec in self.all if spec.name == name)

    @property
    def placed(self) -> list[str]:
        """Those that a placement says the ranks of, the generator first."""
        named = sorted(self.all, key=lambda spec: (spec.name != GENERATOR, not spec.losses))  # flow last
        return [spec.name for spec in named if not spec.place]

    @property
    def trained(self) -> list[str]:
        """The generator, which is complete last, behind the others."""
        names = [spec.name for spec in self.all if spec.rate is not None]
        return sorted(names, key=lambda name: name == GENERATOR)

    @property
    def buckets(self) -> list[Bucket]:
        """Of the trained roles, in the order in which they are reduced where nothing else is planned."""
        return [Bucket(name, number) for name in self.trained for number in reversed(range(self[name].n_buckets))]

    def active(self, chunk: LaneChunk) -> list[str]:
        """The trained roles that take part in a step whose lanes all are at this chunk."""
        return [name for name in self.trained if self[name].is_active(chunk)]

    def shapes(self) -> dict[TensorKind, TensorShape]:
        """Of everything that tasks make."""
        made = {kind: shape for spec in self.all for kind, shape in spec.shapes().items()}
        return made | {kind.gradient: shape for kind, shape in made.items()}


GENERATOR = "generator"
"""The one role that others know by name: they judge what it makes."""
