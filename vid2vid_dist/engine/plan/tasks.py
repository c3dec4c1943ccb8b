"""What a training step consists of: tasks, what they need, and the sites that tie tasks to one rank."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from vid2vid_dist.engine.plan.tensors import Part, TensorKind


class Kind(StrEnum):
    """What a task does for its role."""

    REFERENCE = "reference"  # reference flow, from real frames
    STYLE = "style"  # how the regions of a frame look
    LABEL = "label"  # label branch of a frame at one scale
    FOREGROUND = "foreground"  # foreground branch, which reads labels only, too
    PAST = "past"  # the encoder of the frames before; with the label features it makes the trunk
    SYNTHESIS = "synthesis"  # from the trunk to the purely synthesised frame
    FLOW = "flow"  # from the trunk to flow and weight, and the frame before warped by it
    BLEND = "blend"  # the frame, of what is synthesised, warped and foreground
    REAL = "real"  # a critic on real frames
    FAKE = "fake"  # a critic on generated frames: its losses, and their gradients to the frames
    CRITIC_BACKWARD = "critic_backward"  # a discriminator's own loss into its weights
    SYNTHESIS_BACKWARD = "synthesis_backward"  # from the frame's gradients to weights and the trunk's gradient
    FLOW_BACKWARD = "flow_backward"  # likewise
    PAST_BACKWARD = "past_backward"  # from the trunk's gradient to weights
    LABEL_BACKWARD = "label_backward"  # likewise
    FOREGROUND_BACKWARD = "foreground_backward"  # from the frame's gradients to weights
    STYLE_BACKWARD = "style_backward"  # from the branches' gradients to weights
    REDUCE = "reduce"  # a bucket of a role's gradients, summed over the ranks that hold it
    UPDATE = "update"  # the optimiser on a rank's shard


FAR = 10_000  # frames of a clip after which every temporal scale is active

COLLECTIVE = (Kind.REDUCE, Kind.UPDATE)
"""Run on every rank that holds the role; all other tasks run on one."""

INTO_WEIGHTS = (Kind.CRITIC_BACKWARD, Kind.SYNTHESIS_BACKWARD, Kind.FLOW_BACKWARD, Kind.PAST_BACKWARD,
                Kind.LABEL_BACKWARD, Kind.FOREGROUND_BACKWARD, Kind.STYLE_BACKWARD)
"""Leave gradients of their role's weights."""

FREES_GRAPH = (Kind.FAKE, *INTO_WEIGHTS)
"""Take gradients of what earlier tasks of their site have recorded."""


class Site(NamedTuple):
    """Tasks of one site share a rank: they hand on autograd graphs, or what a lane keeps between steps.

    `frame` of the chunk, the first one of a critic's pass. `part` tells sites of one frame apart.
    """

    role: str
    lane: int
    frame: int = 0
    scale: int = 0
    part: str = ""


class Need(NamedTuple):
    """A task that must have run, and what is read of it; nothing where role and site are the same: these share memory.
    """

    task: int
    parts: tuple[Part, ...] = ()


class CostKey(NamedTuple):
    """Tasks that cost alike. `bucket`: of a reduction."""

    role: str
    kind: Kind
    scale: int = 0
    bucket: int = 0

    def __str__(self) -> str:
        return f"{self.role}/{self.kind}/{self.bucket if self.kind == Kind.REDUCE else self.scale}"


class Bucket(NamedTuple):
    """Gradients of a role that are reduced together, as soon as its tasks have left all of them."""

    role: str
    number: int = 0

    def __str__(self) -> str:
        return self.role + (f" {self.number}" if self.number else "")


Identity = tuple[Site | None, str, Kind, tuple[int, ...]]
"""What tells a task from the others of its step; the same task of another step has it too."""


@dataclass
class Task:
    """One piece of work on one rank.

    `number` counts the tasks of a step in an order that respects all needs. `frames` are indices into the chunk, `gap`
    that of reference flow. `units`: how often the unit cost of its kind; `fraction`: its part in the mean over the
    chunk. `from_last_step`: tensors that the step before left at the site; `to_next_step`: tensors for the next one,
    and the sites that they go to. `after`: tasks that the plan puts earlier to bound memory; nothing is sent for these.
    `is_ahead`: it works on the chunk of the next step. `bucket`: of its role, that a reduction is of.
    """

    number: int
    kind: Kind
    role: str
    lane: int = -1
    frames: tuple[int, ...] = ()
    scale: int = 0
    gap: int = 1
    site: Site | None = None
    units: float = 1.0
    fraction: float = 1.0
    needs: list[Need] = field(default_factory=list)
    from_last_step: tuple[TensorKind, ...] = ()
    to_next_step: list[tuple[Part, Site]] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    is_ahead: bool = False
    bucket: int = 0

    @property
    def cost_key(self) -> CostKey:
        return CostKey(self.role, self.kind, self.scale, self.bucket)

    @property
    def reduces(self) -> Bucket:
        return Bucket(self.role, self.bucket)

    @property
    def identity(self) -> Identity:
        return self.site, self.role, self.kind, self.frames

    @property
    def name(self) -> str:
        if self.kind in COLLECTIVE:
            return f"{self.kind} {self.reduces}"
        parts = [f"{self.role} {self.kind}", f"lane {self.lane}"]
        parts += [f"frame {','.join(map(str, self.frames))}"] if self.frames else []
        parts += [f"scale {self.scale}"] if self.scale else []
        return " ".join([*parts, *(["ahead"] if self.is_ahead else [])])


class LaneChunk(NamedTuple):
    """A lane's part in a step: frames of its clip that were generated before, and frames to generate.

    Without frames to generate the lane rests.
    """

    n_seen: int
    n_frames: int


@dataclass(frozen=True)
class StepShape:
    """Everything that determines a step's tasks, besides the configuration.

    `ahead`: chunks of the next step, whose reference flow is computed in this one. `flow_ready`: the step
    before did so for this one. `in_flight`: a lane starts when the lane so many before it has finished its
    backward passes; 0 = all at once.
    """

    lanes: tuple[LaneChunk, ...]
    ahead: tuple[LaneChunk, ...] = ()
    flow_ready: bool = False
    n_frames_bp: int = 1
    train_all_scales: bool = True
    in_flight: int = 0


def steady_shape(n_lanes: int, n_frames: int, n_frames_bp: int = 1, in_flight: int = 0,
                 flow_ahead: bool = True) -> StepShape:
    """A step in the middle of long clips: every temporal scale active."""
    lanes = (LaneChunk(FAR, n_frames),) * n_lanes
    return StepShape(lanes, ahead=lanes if flow_ahead else (), flow_ready=flow_ahead, n_frames_bp=n_frames_bp,
                     in_flight=in_flight)


@dataclass(frozen=True)
class NeededFrames:
    """Frames of a clip that somebody reads: encoded labels of some, real pictures of others. Counted from the first
    generated frame; the given frames before it have negative numbers. `flows`: (frame, gap) between which the loader
    is to find the flow; it is read once."""

    labels: frozenset[int] = frozenset()
    real: frozenset[int] = frozenset()
    flows: frozenset[tuple[int, int]] = frozenset()

    def __or__(self, other: NeededFrames) -> NeededFrames:
        return NeededFrames(self.labels | other.labels, self.real | other.real, self.flows | other.flows)

    def __sub__(self, other: NeededFrames) -> NeededFrames:
        return NeededFrames(self.labels - other.labels, self.real - other.real, self.flows - other.flows)

    def kept(self, n_seen: int, n_past: int, n_kept: int) -> NeededFrames:
        """Those that a chunk may look back at which follows `n_seen` frames: at `n_past` with the generator, at
        `n_kept` with the temporal groups."""
        return NeededFrames(frozenset(i for i in self.labels if i >= n_seen - n_past),
                            frozenset(i for i in self.real if i >= n_seen - max(n_past, n_kept)))
