"""This rank's place in a pipeline: the steps that it takes, and what clips in flight leave on it between them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.planner import Placed, Planner, left_at
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import Plan, Run
from vid2vid_dist.engine.plan.simulate import planned_runs
from vid2vid_dist.engine.plan.tasks import NeededFrames, Site, StepShape
from vid2vid_dist.engine.plan.tensors import FrameSize
from vid2vid_dist.engine.run.clip import ClipInFlight, clip_files
from vid2vid_dist.engine.run.executor import Executor, Role, StepResult
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.streams import Beside, Upload
from vid2vid_dist.engine.run.tensor_store import LanePart, Shown
from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.engine.run.updates import MayUpdate, always
from vid2vid_dist.models.labels import EncodedLabels
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.models.temporal import frames_kept
from vid2vid_dist.network_input import encode_flows, encode_inputs, encode_pictures


@dataclass(frozen=True)
class Inputs:
    """Frames of a lane's clips on this rank's device; None where it reads none."""

    labels: EncodedLabels | None
    real: Tensor | None
    flows: Tensor | None

    def tensors(self) -> list[Tensor]:
        of_labels = [self.labels.planes, self.labels.ids, self.labels.regions] if self.labels is not None else []
        return [x for x in (*of_labels, self.real, self.flows) if x is not None]


class Pipeline:
    """Runs this rank's part of each step's plan."""

    def __init__(self, specs: RoleSpecs, grid: Grid, placed: Placed, roles: Mapping[str, Role]) -> None:
        """`roles`: those that this rank holds. Every rank makes its pipeline at the same time."""
        self.cfg, self.grid, self.roles = specs.cfg, grid, roles
        self.dtype = DTYPES[self.cfg.optim.precision]
        self.planner = Planner(specs, placed)
        self.clips: dict[int, ClipInFlight] = {}  # by lane of the run
        self._executor = Executor(roles, specs.shapes(), grid.rank_in_pipeline, Transport(grid), self.dtype,
                                  placed.reductions)
        self._last: tuple[Plan, StepShape] | None = None
        self.upload = Upload(grid.device)

    @property
    def timer(self) -> Timer:
        return self._executor.timer

    @property
    def beside(self) -> Beside:
        """What is done here beside the tasks is waited for by the updates of the next step."""
        return self._executor.beside

    def planned_runs(self) -> list[Run]:
        """This rank's part of the last step, as planned: it begins at 0. Nothing where no times were planned."""
        assert self._last is not None
        plan, _ = self._last
        return [] if plan.costs is None else planned_runs(plan, self.grid.rank_in_pipeline)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within, steps have clips and plans of their own; afterwards those of before are back."""
        kept = self.planner, self.clips, self._last
        self.planner, self.clips = Planner(self.planner.specs, self.planner.placed), {}
        yield
        self.planner, self.clips, self._last = kept
        self.timer.take()

    def encode(self, needed: NeededFrames, decoded: list[Frames]) -> Inputs:
        """Frames of a lane's clips that were decoded for this rank, on their way to its device (`upload`)."""
        cfg, device, dtype = self.cfg, self.grid.device, self.dtype
        with self.upload.stream():
            return Inputs(encode_inputs(cfg, decoded, device, dtype) if needed.labels else None,
                          encode_pictures(decoded, device, dtype) if needed.real else None,
                          encode_flows(decoded, device) if needed.flows else None)

    def feed(self, lane: int, needed: NeededFrames, inputs: Inputs) -> None:
        """Take up what was encoded for a lane's clips."""
        clip = self.clips[lane]
        self.upload.wait(inputs.tensors())
        if inputs.labels is not None:
            clip.add_labels(sorted(needed.labels), inputs.labels)
        if inputs.real is not None:
            clip.add_real(sorted(needed.real), inputs.real)
        if inputs.flows is not None:
            clip.add_flows(sorted(needed.flows), inputs.flows)

    def step(self, number: int, plan: Plan, shape: StepShape, lanes: Sequence[LanePart | None], active: Sequence[str],
             shown: Shown | None = None, may_update: MayUpdate = always) -> StepResult:
        """Step `number` of the run, by the planner's next plan; the others as in `Executor.step`."""
        self._executor.transport.step = number
        self._last = plan, shape
        result = self._executor.step(plan, shape, lanes, active, shown, may_update)
        for part in lanes:
            if part is not None:
                kept = frames_kept(self.cfg.discriminator, part.clip.n_seen + part.n_frames)
                part.clip.advance(part.n_frames, self.cfg.generator.n_frames_G - 1, kept)
        return result

    def snapshot(self) -> dict[str, dict[str, Tensor] | str]:
        """Files of a checkpoint, by name: what lies on this rank of the clips in flight, not copied."""
        assert self._last is not None
        plan, shape = self._last
        left = {"sites": [[*site, slot] for site, slot in left_at(plan).items()], "flow_ready": bool(shape.ahead)}
        return {**{self._file(number): clip.state() for number, clip in self.clips.items()},
                self._in_flight_file(): json.dumps(left)}

    def load(self, folder: Path) -> bool:
        """Take up where the clips in flight lay on the same grid; whether their next reference flow is there."""
        left = json.loads((folder / self._in_flight_file()).read_text())
        self.planner.assignment = {Site(*site): slot for *site, slot in left["sites"]}
        return bool(left["flow_ready"])

    def load_clip(self, folder: Path, number: int, size: FrameSize, moved: bool) -> ClipInFlight:
        """A clip in flight as `snapshot` left it, without the frames that are decoded again. `moved`: from another
        grid; then everything that any task may want of it is here."""
        clip = ClipInFlight(self.cfg.generator.n_scales_spatial, size)
        files = clip_files(folder, number) if moved else [folder / self._file(number)]
        clip.restore(files, self.grid.device, with_ahead=not moved)
        return clip

    def _file(self, number: int) -> str:
        return f"lane_{number:04d}.slot_{self.grid.rank_in_pipeline:03d}.safetensors"

    def _in_flight_file(self) -> str:
        return f"in_flight.rank_{self.grid.rank:05d}.json"
