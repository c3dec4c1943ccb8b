"""Networks, optimisers, averages, clips in flight, position: the state of a run, saved and resumed as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vid2vid_dist.config.load import flatten, to_yaml
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.memory import SHARD_BYTES
from vid2vid_dist.engine.plan.messages import FrameSize
from vid2vid_dist.engine.roles.build import (
    Optimizers,
    build_frozen,
    build_generator_role,
    build_held_roles,
    build_modules,
    build_roles,
)
from vid2vid_dist.engine.run.clip import ClipBuffer
from vid2vid_dist.engine.run.executor import HeldRoles
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.in_flight import ClipState, clip_files
from vid2vid_dist.engine.run.lane import Lane, count_lanes
from vid2vid_dist.engine.run.optimizer import AdamSettings
from vid2vid_dist.engine.run.optimizer_state import STEP, SavedPieces
from vid2vid_dist.engine.run.pipeline import Pipeline, Placed
from vid2vid_dist.engine.run.step import Roles
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.models.weights import read_weights
from vid2vid_dist.training.checkpoint import Files, Position, SavedState, copied, differences, way_on, weights_file
from vid2vid_dist.training.curriculum import BETA2, Phase, n_epochs, phase
from vid2vid_dist.training.ema import Ema, buffers_kept
from vid2vid_dist.training.epoch import Epoch
from vid2vid_dist.training.health import Figures, take_figures
from vid2vid_dist.training.pretrain import PretrainReport, find_weights, load_pretrained
from vid2vid_dist.training.resume import require_start
from vid2vid_dist.training.versions import versions
from vid2vid_dist.untrusted import read_yaml, reading


def settle_clips(cfg: Config, n_ranks: int, resume: Path | None) -> Config:
    """The configuration with the number of clips per step that it leaves to the ranks: those that a run began with.

    So the clips that share a step, and all that is drawn for them, stay the same on any number of ranks.
    """
    if cfg.parallel.clips_per_step:
        return cfg
    clips = SavedState.read(resume).clips_per_step if resume else count_lanes(cfg.parallel, n_ranks) * (
        cfg.parallel.batch_size)
    return replace(cfg, parallel=replace(cfg.parallel, clips_per_step=clips))


class TrainingState:
    """Everything that a checkpoint holds, on this rank.

    `clips` is `ClipSource.identity()`: a resumed run must find the same sequence of clips.
    """

    def __init__(self, cfg: Config, grid: Grid, clips: dict[str, Any], longest: int, resume: Path | None,
                 placed: Placed | None = None) -> None:
        self.cfg, self.grid, self._clips, self._longest, self._placed = cfg, grid, clips, longest, placed
        self.position, self.trains_all_scales = Position(), self.phase(1).train_all_scales
        self._moved = False  # to another grid than the one that saved
        self.changes: list[str] = []  # what the configuration says otherwise than the one that was saved
        if resume:
            saved = self._read(resume)
            self._moved = saved.layout != self._layout()
            with reading(resume / "config.yaml", way_on(resume)):
                self.changes = differences(_flat(read_yaml(resume / "config.yaml")), flatten(cfg))
            self.position, self.trains_all_scales = saved.position, saved.trains_all_scales
        frozen = build_frozen(cfg)  # first: a missing weights file is found before anything expensive
        modules = build_modules(cfg)
        self.pretrained: list[PretrainReport] = []
        if cfg.run.load_pretrain and not resume:
            folder = find_weights(cfg.run.load_pretrain)
            self.pretrained = [load_pretrained(folder, role, module) for role, module in modules.items()]
        now = self.phase(self.position.epoch)
        self.roles: Roles | HeldRoles
        self.pipeline: Pipeline | None = None
        if placed is None:
            self._holders = dict.fromkeys(modules, grid)
            self.roles = build_roles(cfg, grid, modules, frozen, optimizers(cfg, now), self.trains_all_scales)
        else:
            self._holders = grid.holders(placed.layout.slots)
            self.roles = build_held_roles(
                cfg, self._holders, modules, frozen, optimizers(cfg, now), self.trains_all_scales
            )
            self.pipeline = Pipeline(cfg, grid, placed, self.roles, DTYPES[cfg.optim.precision])
        self._lanes: dict[int, Lane] = {}
        self.flow_ready = False  # whether reference flow of the first step is among what was loaded
        if resume:
            self._load(resume)
        self.ema = self._start_average(resume) if cfg.optim.ema_decay and self._is_first("generator") else None

    def _is_first(self, role: str) -> bool:
        """Whether this rank is the first of those that hold a role."""
        return self.grid.rank == self.first_holder(role)

    def first_holder(self, role: str) -> int:
        """The first of the ranks that hold a role."""
        slot = 0 if self._placed is None else self._placed.layout.holders(role)[0]
        return int(self.grid.ranks[0, slot])

    def first_held(self) -> dict[str, nn.Module]:
        """The trained modules of which this rank is the first holder, by role."""
        return {name: engine.module for name, engine in self.roles.engines().items() if self._is_first(name)}

    def phase(self, epoch: int) -> Phase:
        """The curriculum in force in an epoch; past the end, that of the last one."""
        return phase(self.cfg, min(epoch, n_epochs(self.cfg)), self._longest)

    @property
    def n_lanes(self) -> int:
        """Lanes of the whole world."""
        return count_lanes(self.cfg.parallel, self.grid.world_size)

    @property
    def my_lanes(self) -> range:
        """This pipeline's lanes: dealt out like cards, so that a round that is not full still spreads over them."""
        return range(self.grid.pipeline, self.n_lanes, self.grid.ranks.shape[0])

    def lane(self, number: int, chunk: int) -> Lane:
        """A lane before a chunk: new for every clip, taken up from the checkpoint in the middle of one."""
        if chunk == 0 or number not in self._lanes:
            self._lanes[number] = Lane(self.cfg, self.grid.device, DTYPES[self.cfg.optim.precision])
            if chunk:
                with self._reading_lanes():
                    self._lanes[number].restore(ClipState.read(clip_files(self._saved_lanes, number), self.grid.device))
        return self._lanes[number]

    def clip_buffer(self, number: int, chunk: int, size: FrameSize) -> ClipBuffer:
        """The same of a placed run: what this rank has of the lane's clip."""
        assert self.pipeline is not None
        if chunk == 0:
            self.pipeline.buffers[number] = ClipBuffer(self.cfg.generator.n_scales_spatial, size)
        elif number not in self.pipeline.buffers:
            with self._reading_lanes():
                self.pipeline.buffers[number] = self.pipeline.load_buffer(
                    self._saved_lanes, number, size, self._moved)
        return self.pipeline.buffers[number]

    def enter(self, epoch: int) -> Phase:
        """Bring the optimisers to the values of an epoch."""
        now = self.phase(epoch)
        if now.train_all_scales and not self.trains_all_scales:
            self._train_all_scales(now)
        rates = {"generator": now.lr_generator, "image": now.lr_discriminator, "face": now.lr_discriminator}
        for name, engine in self.roles.engines().items():
            engine.set_lr(rates.get(name, now.lr_temporal))
        return now

    def after_update(self) -> None:
        """To be called after every optimiser step."""
        if self.ema:
            assert self.roles.generator is not None
            self.ema.update(self.roles.generator.module)

    def figures(self) -> Figures:
        """What this rank's roles know about their health since the last call (`health`)."""
        return take_figures(self.roles, self._is_first)

    @contextmanager
    def generator_left_alone(self, averaged: bool) -> Iterator[Generator]:
        """Within, this rank's generator, with its trained or with the averaged weights, for frames that are not
        trained on; afterwards it is as before bit by bit, the statistics of its norm layers included."""
        assert self.roles.generator is not None
        module = self.roles.generator.module
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
        if self.roles.generator is None:
            self.trains_all_scales = True
            return
        module = Generator(self.cfg).to(self.grid.device, DTYPES[self.cfg.optim.precision])
        module.load_state_dict(self.roles.generator.module.state_dict())
        self.roles.generator.engine.close()
        adam = optimizers(self.cfg, now).generator
        self.roles.generator = build_generator_role(
            self.cfg, self._holders["generator"], module, adam, train_all_scales=True
        )
        self.trains_all_scales = True

    @contextmanager
    def aside(self, now: Phase) -> Iterator[None]:
        """Within, steps have clips of their own and train the scales of `now`; their updates must be refused.
        Afterwards all is as before. An error within ends the run: nothing is put back.
        """
        lanes, self._lanes = self._lanes, {}
        on_gpu = self.grid.device.type == "cuda"
        clips = nullcontext() if self.pipeline is None else self.pipeline.aside()
        with torch.random.fork_rng([self.grid.device] if on_gpu else []), clips, self._more_scales(now):
            yield
        self._lanes = lanes
        self.figures()  # of steps that were none

    @contextmanager
    def _more_scales(self, now: Phase) -> Iterator[None]:
        """The memory of a generator that trains all scales, where it does not yet: gradients of all weights, and room
        for the optimiser's part of those that it leaves alone so far."""
        role = self.roles.generator
        if role is None or self.trains_all_scales or not now.train_all_scales:
            yield
            return
        still = [p for p in role.module.parameters() if not p.requires_grad]
        n_bytes = 0 if self.cfg.optim.offload else SHARD_BYTES * sum(p.numel() for p in still)
        room = torch.empty(n_bytes // self._holders["generator"].world_size, dtype=torch.uint8,
                           device=self.grid.device)
        role.module.requires_grad_(True)
        yield
        for p in still:
            p.requires_grad_(False)
            p.grad = None
        del room

    def snapshot(self) -> Files:
        """This rank's part of a checkpoint, copied out: training may go on while it is written."""
        files: Files = {}
        for name, engine in self.roles.engines().items():
            files[f"optimizer/{name}/rank_{self.grid.rank:05d}.safetensors"] = copied(engine.state())
            if self._is_first(name):
                files[f"{name}.safetensors"] = copied(engine.module.state_dict())
        if self.ema:
            files["generator_ema.safetensors"] = copied(self.ema.average)
        if self.position.chunk:  # in the middle of a clip
            if self.pipeline is not None:
                files |= {f"lanes/{name}": content if isinstance(content, str) else copied(content)
                          for name, content in self.pipeline.snapshot().items()}
            for number, lane in self._lanes.items() if self.pipeline is None else ():
                files[f"lanes/lane_{number:04d}.safetensors"] = copied(lane.state())
        if self.grid.is_first:
            files["config.yaml"] = to_yaml(self.cfg)
            state = SavedState(self.position, self.trains_all_scales, self.cfg.parallel.clips_per_step, self._layout(),
                               self._clips_at(self.position), self._networks(), versions())
            files["state.json"] = state.to_json()
        return files

    def _load(self, folder: Path) -> None:
        for name, engine in self.roles.engines().items():
            engine.module.load_state_dict(
                read_weights(weights_file(folder, name), engine.module.state_dict(), way_on(folder)))
            with reading(folder / "optimizer" / name, way_on(folder)):
                saved = SavedPieces(folder / "optimizer" / name)
                if saved.step is not None and not (saved.step.numel() == 1 and 0 <= float(saved.step) < 2**53):
                    raise ValueError(f"{STEP}, of Adam, is {saved.step.tolist()}")
                engine.restore(saved)
        self._saved_lanes = folder / "lanes"
        if self.pipeline is not None and self.position.chunk and not self._moved:
            with self._reading_lanes():
                self.flow_ready = self.pipeline.load(self._saved_lanes)

    def _reading_lanes(self) -> AbstractContextManager[None]:
        return reading(self._saved_lanes, way_on(self._saved_lanes.parent))

    def require_start(self, plan: Epoch, now: Phase) -> None:
        """As the function of this name, when a resumed run enters its first epoch."""
        require_start(self._saved_lanes.parent, self.position, plan, self.my_lanes, now.chunk_frames)

    def _start_average(self, resume: Path | None) -> Ema:
        """The saved average; where there is none, one that starts with the weights of now."""
        assert self.roles.generator is not None
        ema = Ema(self.roles.generator.module, self.cfg.optim.ema_decay)
        if resume and weights_file(resume, "generator_ema").is_file():
            averaged = read_weights(weights_file(resume, "generator_ema"), ema.average, way_on(resume))
            ema.average = {name: tensor.to(self.grid.device) for name, tensor in averaged.items()}
        return ema

    def _read(self, folder: Path) -> SavedState:
        """The saved state, if this run can go on from it."""
        saved = SavedState.read(folder)
        other_run = f"choose another run.name, or remove {folder.parent.parent}"
        saved.require("networks", self._networks(), folder, f"set them back, or {other_run}")
        saved.data.pop("max_faults", None)  # of older checkpoints
        now = self._clips_at(saved.position)
        if saved.data.get("index") != now.get("index"):
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
        layout: dict[str, Any] = {"ranks": self.grid.world_size}
        if self._placed is not None:
            layout |= {"placement": str(self._placed.layout), "pipelines": self._placed.n_pipelines}
        return layout

    def _networks(self) -> dict[str, Any]:
        cfg = self.cfg
        younger = {"netG": "composite", "n_local_enhancers": 1, "style_nc": 0}  # than some checkpoints
        gen = {k: v for k, v in asdict(cfg.generator).items() if k not in younger or v != younger[k]}
        disc = {
            k: v
            for k, v in asdict(cfg.discriminator).items()
            if k not in ("frames_per_pass", "sparse_D", "face_marker")
        }
        return {
            **gen,
            **disc,
            "no_ganFeat": cfg.loss.no_ganFeat,
            "label_channels": cfg.label_channels,
            "precision": cfg.optim.precision,
        }


def optimizers(cfg: Config, now: Phase) -> Optimizers:
    """Adam for every role, as the epoch wants it."""
    return Optimizers(
        generator=AdamSettings(now.lr_generator, now.betas_generator),
        discriminator=AdamSettings(now.lr_discriminator, now.betas_discriminator),
        temporal=AdamSettings(now.lr_temporal, (cfg.optim.beta1, BETA2)),
    )


def _flat(sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A configuration file's values by dotted key."""
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}
