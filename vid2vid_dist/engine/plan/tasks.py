"""What a training step consists of: tasks, what they need, and the sites that tie tasks to one rank."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What a task does. The order is that of a frame's way through a step."""

    FLOW = "flow"  # reference flow of a frame, from real frames
    SKIPPED_FLOW = "skipped_flow"  # reference flow between frames that a temporal scale skips between
    LABEL = "label"  # label branch of a frame at one scale
    FOREGROUND = "foreground"  # foreground branch, which reads labels only, too
    SYNTHESIS = "synthesis"  # the part of the generator that waits for the frames before
    IMAGE_REAL = "image_real"  # image (and face) discriminator on the real frames of a pass
    IMAGE_FAKE = "image_fake"  # ... on the generated ones, and the gradient to them
    IMAGE_BACKWARD = "image_backward"  # the discriminator's own loss into its weights
    TEMPORAL_REAL = "temporal_real"  # as above, for all groups of a lane at one temporal scale
    TEMPORAL_FAKE = "temporal_fake"
    TEMPORAL_BACKWARD = "temporal_backward"
    PERCEPTUAL_REAL = "perceptual_real"
    PERCEPTUAL_FAKE = "perceptual_fake"
    FLOW_LOSS = "flow_loss"  # flow and warp losses and their gradients, where the frame was made
    BACKWARD = "backward"  # label branch and synthesis of a frame at one scale, from gradients to weights
    FOREGROUND_BACKWARD = "foreground_backward"  # the foreground branch likewise
    REDUCE = "reduce"  # gradients of a role to the owners of its optimiser shards, new weights back
    UPDATE = "update"  # the optimiser on a rank's shard


FAR = 10_000  # frames of a clip after which every temporal scale is active

COLLECTIVE = (Kind.REDUCE, Kind.UPDATE)
"""Run on every rank that holds the role; all other tasks run on one."""


INTO_WEIGHTS = (Kind.BACKWARD, Kind.FOREGROUND_BACKWARD, Kind.IMAGE_BACKWARD, Kind.TEMPORAL_BACKWARD)
"""Leave gradients of their role's weights."""


@dataclass(frozen=True)
class Site:
    """Tasks of one site share a rank: they hand on autograd graphs, or what a lane keeps between steps.

    `role` is generator, image, temporal_N, perceptual or flow. `index` is the frame, or the pass of the image
    discriminator, or a running number of flows. `part`: "foreground" of the generator; of flow, "ahead" = for
    the next step.
    """

    role: str
    lane: int
    index: int = 0
    scale: int = 0
    part: str = ""


@dataclass(frozen=True)
class Need:
    """A task that must have run, and the tensors of it that are read; none within a site, which shares memory."""

    task: int
    tensors: tuple[str, ...] = ()


@dataclass
class Task:
    """One piece of work on one rank.

    `number` counts the tasks of a step in an order that respects all needs. `frames` are indices into the
    chunk; of skipped flows, the running number among the flows of that temporal scale. `units`: how often
    the unit cost of its kind. `carried`: tensors that the step before left at the site. `carries`: tensors
    for the next step, and the sites that they go to. `after`: tasks that the plan puts earlier to bound
    memory; nothing is sent for these.
    """

    number: int
    kind: Kind
    role: str
    lane: int = -1
    frames: tuple[int, ...] = ()
    scale: int = 0
    site: Site | None = None
    units: float = 1.0
    needs: list[Need] = field(default_factory=list)
    carried: tuple[str, ...] = ()
    carries: list[tuple[str, Site]] = field(default_factory=list)
    after: list[int] = field(default_factory=list)

    @property
    def cost_key(self) -> str:
        """Its entry in `Costs.work`."""
        return f"{self.kind}/{self.scale}"

    @property
    def name(self) -> str:
        if self.kind in COLLECTIVE:
            return f"{self.kind} {self.role}"
        parts = [str(self.kind), f"lane {self.lane}"]
        parts += [f"frame {','.join(map(str, self.frames))}"] if self.frames else []
        return " ".join([*parts, f"scale {self.scale}", *(["ahead"] if self.is_ahead else [])])

    @property
    def is_ahead(self) -> bool:
        """Whether it works on the chunk of the next step."""
        return self.site is not None and self.site.part == "ahead"


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


def steady_shape(n_lanes: int, n_frames: int, n_frames_bp: int = 1, in_flight: int = 0) -> StepShape:
    """A step in the middle of long clips: every temporal scale active, reference flow one step ahead."""
    lanes = (LaneChunk(FAR, n_frames),) * n_lanes
    return StepShape(lanes, ahead=lanes, flow_ready=True, n_frames_bp=n_frames_bp, in_flight=in_flight)
