"""The tasks of one training step and what each of them waits for.

A step works on one chunk of every lane. Frame t of scale s waits only for scale s - 1 of the same frame and
for the frames before it at its own scale; labels, real frames and, with n_frames_bp = 1, the backward passes
wait for no other frame. Reference flow depends on nothing that is trained, so it may run a step ahead.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vid2vid_dist.engine.plan.collection import without_collection
from vid2vid_dist.engine.plan.role import GENERATOR, RoleSpecs
from vid2vid_dist.engine.plan.tasks import INTO_WEIGHTS, Bucket, Kind, LaneChunk, Need, Site, StepShape, Task
from vid2vid_dist.engine.plan.tensors import Part


@dataclass
class LaneTasks:
    """A lane's chunk, to which roles add their tasks.

    `tasks`: of the step so far. `whole_chunks`: critics take all frames of a chunk at once, where they may. `after`:
    tasks that the generator's wait for, to bound memory. `made`: who makes a part; of a gradient, which is the sum of
    what they make, there may be several. `last`: of a role at a site, by frames.
    """

    specs: RoleSpecs
    shape: StepShape
    lane: int
    chunk: LaneChunk
    tasks: list[Task]
    whole_chunks: bool
    is_ahead: bool = False
    after: Sequence[int] = ()
    made: dict[Part, list[Task]] = field(default_factory=dict)
    last: dict[tuple[Site, str, tuple[int, ...]], Task] = field(default_factory=dict)

    def add(self, kind: Kind, site: Site, frames: Sequence[int] = (), *, role: str = "", scale: int = 0, gap: int = 1,
            units: float = 1.0, reads: Iterable[Part] = (), makes: Iterable[Part] = (), fraction: float = 0.0) -> None:
        """A task, after those of its role, site and frames. `role`: the site's unless told otherwise; `reads`: parts of
        other tasks, those of earlier steps included; `makes`: what others may read; `fraction`: its part in the means
        over the chunk, 0 = that of its frames."""
        frames, role = tuple(frames), role or site.role
        before = self.last.get((site, role, frames))
        parts: dict[int, list[Part]] = defaultdict(list)
        earlier = []
        for part in dict.fromkeys(reads):
            for maker in self.made.get(part, []):
                parts[maker.number].append(part)
            # Frames before the first generated one are given; of some frames nobody wants a gradient.
            if part not in self.made and part.frame + self.chunk.n_seen >= 0 and not part.kind.is_gradient:
                earlier.append(part.kind)
        needs = [Need(before.number)] if before is not None else []
        needs += [Need(number, tuple(sorted(found))) for number, found in parts.items()]
        task = self.last[site, role, frames] = Task(
            len(self.tasks), kind, role, self.lane, frames, scale, gap, site, units,
            fraction or (len(frames) / self.chunk.n_frames if self.chunk.n_frames else 1.0), needs,
            from_last_step=tuple(dict.fromkeys(earlier)), is_ahead=self.is_ahead,
            after=list(self.after) if site.role == GENERATOR and not needs else [])
        self.tasks.append(task)
        for part in makes:
            self.made.setdefault(part, []).append(task)

    def passes(self, n_frames: int = 0) -> list[tuple[int, ...]]:
        """The chunk's frames in passes of so many; 0 = all at once."""
        step = n_frames or self.chunk.n_frames
        return [tuple(range(start, min(start + step, self.chunk.n_frames)))
                for start in range(0, self.chunk.n_frames, step)]

    def free_passes(self) -> list[tuple[int, ...]]:
        """Passes of a critic to which it makes no difference: a frame each, so that ranks can share them."""
        return self.passes(0 if self.whole_chunks else 1)


@without_collection()
def step_tasks(specs: RoleSpecs, shape: StepShape, whole_chunks: bool = False) -> list[Task]:
    """All tasks of a step; `tasks[i].number == i`, and every need is of a smaller number.

    `whole_chunks`: see `LaneTasks`; right where one rank has all of them.
    """
    tasks: list[Task] = []
    backwards: list[list[int]] = []  # of the generator, lane after lane
    lanes = [(False, *lane) for lane in enumerate(shape.lanes)] + [(True, *lane) for lane in enumerate(shape.ahead)]
    for is_ahead, number, chunk in lanes:
        if not chunk.n_frames:
            continue
        earlier = backwards[-shape.in_flight] if 0 < shape.in_flight <= len(backwards) else []
        lane = LaneTasks(specs, shape, number, chunk, tasks, whole_chunks, is_ahead, earlier)
        working = [spec for spec in specs.all if spec.works_ahead or not is_ahead]
        for spec in working:
            spec.add_tasks(lane)
        n_before = len(tasks)
        for spec in working:
            spec.add_backwards(lane)
        backwards.append([task.number for task in tasks[n_before:]])
        for part, site in dict.fromkeys(heir for spec in specs.all for heir in spec.needed_next(lane)):
            for task in lane.made.get(part, []):
                task.to_next_step.append((part, site))
    _add_updates(specs, tasks)
    return tasks


def _add_updates(specs: RoleSpecs, tasks: list[Task]) -> None:
    sources: dict[Bucket, list[Need]] = defaultdict(list)
    for task in tasks:
        if task.kind in INTO_WEIGHTS:
            sources[Bucket(task.role, specs[task.role].bucket(task.kind, task.scale))].append(Need(task.number))
    reduced: dict[str, list[Need]] = defaultdict(list)
    for bucket in specs.buckets:
        if bucket in sources:
            reduced[bucket.role].append(Need(len(tasks)))
            tasks.append(Task(len(tasks), Kind.REDUCE, bucket.role, needs=sources[bucket], bucket=bucket.number))
    for role, needs in reduced.items():
        tasks.append(Task(len(tasks), Kind.UPDATE, role, needs=needs))
