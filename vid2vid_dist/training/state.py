"""Networks, optimisers, averages, clips in flight, position: the state of a run, saved and resumed as a whole."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vid2vid_dist.config.load import flatten, to_yaml
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.memory import SHARD_BYTES
from vid2vid_dist.engine.plan.planner import Placed
from vid2vid_dist.engine.plan.role import GENERATOR, RateGroup, RoleSpecs
from vid2vid_dist.engine.plan.tensors import FrameSize
from vid2vid_dist.engine.roles.build import build_frozen, build_modules, build_roles, build_trained_role
from vid2vid_dist.engine.run.clip import ClipInFlight, clip_files, saved_n_seen
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.engine.run.optimizer_state import STEP, SavedPieces
from vid2vid_dist.engine.run.pipeline import Pipeline
from vid2vid_dist.engine.run.streams import Mark
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.models.weights import read_weights
from vid2vid_dist.training.checkpoint import Files, Position, SavedState, differences, way_on, weights_file
from vid2vid_dist.training.copies import Buffers, at_rest, copied
from vid2vid_dist.training.curriculum import Phase, n_epochs, phase, warmth
from vid2vid_dist.training.ema import GENERATOR_EMA, Ema, buffers_kept
from vid2vid_dist.training.epoch import Epoch
from vid2vid_dist.training.health import Figures, take_figures
from vid2vid_dist.training.pretrain import PretrainReport, find_weights, load_pretrained
from vid2vid_dist.untrusted import read_yaml, reading
from vid2vid_dist.version import versions


def settle_clips(cfg: Config, n_ranks: int, resume: Path | None) -> Config:
    """The configuration with the number of clips per step that it leaves to the ranks: those that a run began with.

    So the clips that share a step, and all that is drawn for them, stay the same on any number of ranks.
    """
    if cfg.parallel.clips_per_step:
        return cfg
    clips = SavedState.read(resume).clips_per_step if resume else (
        cfg.parallel.n_lanes(n_ranks) * cfg.parallel.batch_size)
    return replace(cfg, parallel=replace(cfg.parallel, clips_per_step=clips))


class TrainingState:
    """Everything that a checkpoint holds, on this rank.

    `clips` is `ClipSource.identity()`: a resumed run must find the same sequence of clips.
    """

    def __init__(self, specs: RoleSpecs, grid: Grid, clips: dict[str, Any], longest: int, resume: Path | None,
                 placed: Placed) -> None:
        self.cfg, self.specs, self.grid, self._placed = specs.cfg, specs, grid, placed
        self._clips, self._longest = clips, longest
        self.position, self.trains_all_scales = Position(), self.phase(1).train_all_scales
        self._buffers: defaultdict[str, Buffers] = defaultdict(dict)  # by file of a checkpoint
        self._moved = False  # to another grid than the one that saved
        self._averaged_from: int | None = 0
        self.changes: list[str] = []  # what the configuration says otherwise than the one that was saved
        cfg = specs.cfg
        if resume:
            saved = self._read(resume)
            self._moved = saved.layout != self._layout()
            with reading(resume / "config.yaml", way_on(resume)):
                self.changes = differences(_flat(read_yaml(resume / "config.yaml")), flatten(cfg))
            self.position, self.trains_all_scales = saved.position, saved.trains_all_scales
            is_averaged = weights_file(resume, GENERATOR_EMA).is_file()
            self._averaged_from = saved.averaged_from if is_averaged else self.position.step
        frozen = build_frozen(specs)  # first: a missing weights file is found before anything expensive
        modules = build_modules(specs)
        self.pretrained: list[PretrainReport] = []
        if cfg.run.load_pretrain and not resume:
            folder = find_weights(cfg.run.load_pretrain)
            self.pretrained = [load_pretrained(folder, role, module) for role, module in modules.items()]
        now = self.phase(self.position.epoch)
        self._holders = grid.holders(placed.layout.slots)
        self.roles = build_roles(specs, self._holders, modules, frozen, now.rates, self.trains_all_scales)
        self.pipeline = Pipeline(specs, grid, placed, self.roles)
        self.flow_ready = False  # whether reference flow of the first step is among what was loaded
        if resume:
            self._load(resume)
        self.ema = self._start_average(resume) if cfg.optim.ema_decay and self._is_first(GENERATOR) else None

    def engines(self) -> dict[str, RoleEngine]:
        """Of the trained roles that this rank holds."""
        return {name: role.engine for name, role in self.roles.items() if role.engine is not None}

    @property
    def generator(self) -> Generator | None:
        """This rank's generator, where it holds one."""
        module = self.engines()[GENERATOR].module if GENERATOR in self.roles else None
        assert module is None or isinstance(module, Generator)
        return module

    def _is_first(self, role: str) -> bool:
        """Whether this rank is the first of those that hold a role."""
        return self.grid.rank == self.first_holder(role)

    def first_holder(self, role: str) -> int:
        """The first of the ranks that hold a role."""
        return int(self.grid.ranks[0, self._placed.layout.slots[role][0]])

    def first_held(self) -> dict[str, nn.Module]:
        """The trained modules of which this rank is the first holder, by role."""
        return {name: engine.module for name, engine in self.engines().items() if self._is_first(name)}

    def phase(self, epoch: int) -> Phase:
        """The curriculum in force in an epoch; past the end, that of the last one."""
        return phase(self.cfg, min(epoch, n_epochs(self.cfg)), self._longest)

    @property
    def n_lanes(self) -> int:
        """Lanes of the whole world."""
        return self.cfg.parallel.n_lanes(self.grid.world_size)

    @property
    def my_lanes(self) -> range:
        """This pipeline's lanes: dealt out like cards, so that a round that is not full still spreads over them."""
        return range(self.grid.pipeline, self.n_lanes, self.grid.ranks.shape[0])

    def clip(self, number: int, chunk: int, size: FrameSize) -> ClipInFlight:
        """A lane's clip before a chunk: new at its start, taken up from the checkpoint in the middle of one."""
        clips = self.pipeline.clips
        if chunk == 0:
            clips[number] = ClipInFlight(self.cfg.generator.n_scales_spatial, size)
        elif number not in clips:
            with self._reading_lanes():
                clips[number] = self.pipeline.load_clip(self._saved_lanes, number, size, self._moved)
        return clips[number]

    def enter(self, epoch: int) -> Phase:
        """Bring the optimisers to the values of an epoch."""
        now = self.phase(epoch)
        if now.train_all_scales and not self.trains_all_scales:
            self._train_all_scales(now)
        self.set_rates(now)
        return now

    def set_rates(self, now: Phase) -> None:
        """The learning rates of the next step."""
        factor = warmth(self.cfg.optim, self.position.step + 1)
        for name, engine in self.engines().items():
            rate = self.specs[name].rate
            assert rate is not None
            engine.set_lr(factor * now.rates[rate].lr)

    def after_update(self) -> None:
        """To be called after every optimiser step."""
        if self.ema:
            assert self.generator is not None
            start = self._averaged_from
            self.ema.update(self.generator, None if start is None else self.position.step - start)

    def figures(self) -> Figures:
        """What this rank's roles know about their health since the last call (`health`)."""
        return take_figures(self.roles, self._is_first)

    @contextmanager
    def generator_left_alone(self, averaged: bool) -> Iterator[Generator]:
        """Within, this rank's generator, with its trained or with the averaged weights, for frames that are not
        trained on; afterwards it is as before bit by bit, the statistics of its norm layers included."""
        module = self.generator
        assert module is not None
        if averaged:
            assert self.ema is not None
            with self.ema.in_place_of(module):
                yield module
        else:
            with buffers_kept(module):
                yield module

    def _train_all_scales(self, now: Phase) -> None:
        """From the finest scale to all of them: a new optimiser over all weights, with fresh moments.

        A new module as well: an engine leaves its marks on the parameters that it has trained.
        """
        self.trains_all_scales = True
        old = self.generator
        if old is None:
            return
        module = Generator(self.cfg).to(self.grid.device, DTYPES[self.cfg.optim.precision])
        module.load_state_dict(old.state_dict())
        self.engines()[GENERATOR].close()
        self.roles[GENERATOR] = build_trained_role(
            self.specs[GENERATOR], self._holders[GENERATOR], module, now.rates[RateGroup.GENERATOR], True)

    @contextmanager
    def aside(self, now: Phase) -> Iterator[None]:
        """Within, steps have clips of their own and train the scales of `now`; their updates must be refused.
        Afterwards all is as before. An error within ends the run: nothing is put back."""
        on_gpu = self.grid.device.type == "cuda"
        forked = torch.random.fork_rng([self.grid.device] if on_gpu else [])
        with forked, self.pipeline.aside(), self._more_scales(now):
            yield
        self.figures()  # of steps that were none

    @contextmanager
    def _more_scales(self, now: Phase) -> Iterator[None]:
        """The memory of a generator that trains all scales, where it does not yet: gradients of all weights, and room
        for the optimiser's part of those that it leaves alone so far."""
        module = self.generator
        if module is None or self.trains_all_scales or not now.train_all_scales:
            yield
            return
        still = [p for p in module.parameters() if not p.requires_grad]
        n_owned = 0 if self.cfg.optim.offload else SHARD_BYTES * sum(p.numel() for p in still)
        n_bytes = sum(p.nbytes for p in still) + n_owned // self._holders[GENERATOR].world_size
        room = torch.empty(n_bytes, dtype=torch.uint8, device=self.grid.device)
        module.requires_grad_(True)
        yield
        for p in still:
            p.requires_grad_(False)
        del room

    def snapshot(self) -> tuple[Files, Mark]:
        """This rank's part of a checkpoint, and when it is copied out: training may go on, its next updates wait on the
        device. The next one takes the same memory."""
        live: Files = {}
        for name, engine in self.engines().items():
            live[f"optimizer/{name}/rank_{self.grid.rank:05d}.safetensors"] = engine.state()
            if self._is_first(name):
                live[f"{name}.safetensors"] = at_rest(engine.module)
        if self.ema:
            live[f"{GENERATOR_EMA}.safetensors"] = self.ema.average
        if self.position.chunk:  # in the middle of a clip
            live |= {f"lanes/{name}": content for name, content in self.pipeline.snapshot().items()}
        with self.pipeline.beside.stream():
            files = {name: content if isinstance(content, str) else copied(content, self._buffers[name])
                     for name, content in live.items()}
            there = Mark(self.grid.device, held=live)
        if self.grid.is_first:
            files["config.yaml"] = to_yaml(self.cfg)
            state = SavedState(self.position, self.trains_all_scales, self.cfg.parallel.clips_per_step, self._layout(),
                               self._clips_at(self.position), _networks(self.cfg), versions(), self._averaged_from)
            files["state.json"] = state.to_json()
        return files, there

    def _load(self, folder: Path) -> None:
        for name, engine in self.engines().items():
            engine.module.load_state_dict(
                read_weights(weights_file(folder, name), engine.module.state_dict(), way_on(folder)))
            with reading(folder / "optimizer" / name, way_on(folder)):
                saved = SavedPieces(folder / "optimizer" / name)
                if saved.step is not None and not (saved.step.numel() == 1 and 0 <= float(saved.step) < 2**53):
                    raise ValueError(f"{STEP}, of Adam, is {saved.step.tolist()}")
                engine.restore(saved)
        self._saved_lanes = folder / "lanes"
        if self.position.chunk and not self._moved:
            with self._reading_lanes():
                self.flow_ready = self.pipeline.load(self._saved_lanes)

    def _reading_lanes(self) -> AbstractContextManager[None]:
        return reading(self._saved_lanes, way_on(self._saved_lanes.parent))

    def require_start(self, plan: Epoch, now: Phase) -> None:
        """Raise `UserError` if the first epoch of a resumed run has no such place as the saved position, or if a clip
        that goes on there is not saved."""
        at, lanes, folder = self.position, self._saved_lanes, self._saved_lanes.parent
        if at.round >= len(plan.rounds) or at.chunk >= plan.rounds[at.round].n_chunks:
            raise UserError(f"{folder / 'state.json'}: position (round {at.round}, chunk {at.chunk}) is beyond the "
                            f"{len(plan.rounds)} rounds of epoch {at.epoch}: {way_on(folder)}")
        n_seen = at.chunk * now.chunk_frames
        for number in self.my_lanes if at.chunk else ():
            if plan.rounds[at.round].is_active(number, at.chunk):
                with self._reading_lanes():
                    files = clip_files(lanes, number)
                    found = set(map(saved_n_seen, files))
                if found != {n_seen}:
                    raise UserError(f"{lanes}: the clip of lane {number} has {n_seen} frames behind it, its "
                                    f"{len(files)} files say {sorted(found)}: {way_on(folder)}")

    def _start_average(self, resume: Path | None) -> Ema:
        """The saved average; where there is none, one that starts with the weights of now."""
        assert self.generator is not None
        ema = Ema(self.generator, self.cfg.optim.ema_decay)
        if resume and weights_file(resume, GENERATOR_EMA).is_file():
            averaged = read_weights(weights_file(resume, GENERATOR_EMA), ema.average, way_on(resume))
            ema.average = {name: tensor.to(self.grid.device) for name, tensor in averaged.items()}
        return ema

    def _read(self, folder: Path) -> SavedState:
        """The saved state, if this run can go on from it."""
        saved = SavedState.read(folder)
        other_run = f"choose another run.name, or remove {folder.parent.parent}"
        saved.networks.update(_networks(Config()) | saved.networks)  # what it does not name could not be set then
        saved.require("networks", _networks(self.cfg), folder, f"set them back, or {other_run}")
        now = self._clips_at(saved.position)
        saved.data.pop("max_faults", None)  # of older checkpoints
        saved.data.setdefault("frames", now["frames"])  # which older ones do not have
        if any(saved.data.get(key) != now[key] for key in ("index", "frames")):
            raise UserError(f"the shards in {self.cfg.data.shards} have changed since checkpoint {folder} was made: "
                            "name those that it was made from in data.shards, or start from its weights: "
                            f"run.name=NEW run.load_pretrain={folder.parent.parent}")
        saved.require("data", now, folder, f"set them back, or {other_run}")
        return saved

    def _clips_at(self, position: Position) -> dict[str, Any]:
        """What the clips still to come depend on. Between two epochs the schedule may change, within one it may not:
        a position counts chunks."""
        if (position.round, position.chunk) == (0, 0):
            return self._clips
        now, parallel = self.phase(position.epoch), self.cfg.parallel
        return {**self._clips, "n_frames_total": now.n_frames_total, "chunk_frames": now.chunk_frames,
                "clips_per_step": parallel.clips_per_step, "batch_size": parallel.batch_size}

    def _layout(self) -> dict[str, Any]:
        """Where clips in flight lie."""
        return {"ranks": self.grid.world_size, "placement": self._placed.layout.describe(),
                "pipelines": self._placed.n_pipelines}


def _networks(cfg: Config) -> dict[str, Any]:
    """What the shapes and names of the weights depend on."""
    free = "frames_per_pass", "groups_per_pass", "sparse_D", "face_marker", "augment"
    gen, disc = asdict(cfg.generator), asdict(cfg.discriminator)
    of_disc = {f"discriminator.{k}" if k in gen else k: v for k, v in disc.items() if k not in free}
    of_disc["adaptive"] = disc["augment"] == "adaptive"  # its strength is a weight
    return {**gen, **of_disc, "no_ganFeat": cfg.loss.no_ganFeat, "label_channels": cfg.label_channels,
            "precision": cfg.optim.precision}


def _flat(sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A configuration file's values by dotted key."""
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}
