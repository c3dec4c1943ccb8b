"""Measure this machine: the training step against the original's order of work, generation, decoding, safety.

    python -m tools.bench [CONFIG] [key=value …]      default: configs/toy/cpu.yaml, one rank, random frames

The original runs each discriminator three times per kind of frame (real, fake without and with gradient) and the
real frames once per kind of fake; ours runs each pass once and takes two gradients from the fake one. Both steps
use the same networks, optimisers and frames, in turn, in one process: the ratio of their medians is what counts.

Checkpoints and the watchdog are measured in a short run of the same configuration. Their share is an upper bound: it
takes a checkpoint's whole time, though most of it passes beside the training.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from tools.lanes import clip_of
from vid2vid_dist import losses
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config, split_arguments
from vid2vid_dist.config.schema import Config, RunConfig
from vid2vid_dist.data.clips import ClipSource, Frames, Request
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.schedule import in_order
from vid2vid_dist.engine.plan.tasks import LaneChunk, StepShape
from vid2vid_dist.engine.roles.build import build_frozen, build_modules, build_roles, role_specs
from vid2vid_dist.engine.run.executor import Executor
from vid2vid_dist.engine.run.grid import Grid, solo_grid
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.models.generator import GeneratedChunk, Generator
from vid2vid_dist.models.temporal import temporal_plan
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.network_input import encode_inputs, encode_pictures
from vid2vid_dist.toy.street import ensure_toy_shards
from vid2vid_dist.training.curriculum import Phase, phase
from vid2vid_dist.training.trainer import Trainer

ROUNDS = 7


def main() -> None:
    file, overrides = split_arguments(sys.argv[1:])
    cfg = load_config(file or "configs/toy/cpu.yaml", [*overrides, "optim.backend=plain", "optim.precision=fp32"])
    ensure_toy_shards(Path(cfg.data.shards))
    source = ClipSource.of(cfg)
    now = phase(cfg, 1, source.longest)
    clip = source.clip(1, 0, now.n_frames_total, now.chunk_frames)
    width, height = clip.geometry.size
    n_frames = cfg.generator.n_frames_G - 1 + now.chunk_frames
    print(f"{width}x{height}, {now.chunk_frames} frames a step, {torch.get_num_threads()} threads, median of {ROUNDS}")

    frames = source.load(Request.span(clip, 0, n_frames))
    both = Both(cfg, now, frames, solo_grid())
    ours, original = timed(both.our_step, both.original_step)
    print(f"training step      {ours:8.3f} s   in the original's order of work {original:8.3f} s   "
          f"ratio {original / ours:.2f}")
    with torch.no_grad():
        (making,) = timed(both.generate)
    print(f"generating         {making / now.chunk_frames:8.3f} s a frame")
    (decoding,) = timed(lambda: source.load(Request.span(clip, 0, n_frames)))
    print(f"decoding           {n_frames / decoding:8.0f} frames/s on one core (labels, image, instances)")
    with tempfile.TemporaryDirectory(prefix="bench.") as root:
        run = [f"run.root={root}", "run.device=cpu", "run.max_steps=12", "run.save_every_steps=4",
               "monitor.log_every=4", "monitor.pictures_every=0"]
        print(safety(load_config(file or "configs/toy/cpu.yaml", [*overrides, *run]), Config().run))


def safety(cfg: Config, default: RunConfig) -> str:
    """Train `cfg` and say what its checkpoints and its watchdog would take at the intervals of `default`."""
    trainer = Trainer(cfg, open_grid("cpu"))
    trainer.run()
    journal = read_journal(trainer.run_dir)
    step = statistics.median(report["seconds_per_step"] for report in journal.reports)
    saves = [event for event in journal.events if event["event"].startswith("saved ")]
    stall, save = (statistics.median(event[key] for event in saves) for key in ("stall", "seconds"))
    (sign,) = timed(trainer.watchdog.show)
    between = min(default.save_every_steps * step, 60 * default.save_every_minutes)
    return (f"checkpoint         {1000 * stall:8.0f} ms of standstill, {save:.2f} s until it is in force: at most "
            f"{save / between:.3%} of the time at one in {between / 60:.0f} minutes\n"
            f"watchdog           {1000 * sign:8.2f} ms a heartbeat: {sign / trainer.watchdog.interval:.4%} of the "
            f"time at one in {trainer.watchdog.interval:.0f} s")


def timed(*calls: Callable[[], object]) -> list[float]:
    """Median seconds of each call, made in turn after one that is not counted."""
    seconds: list[list[float]] = [[] for _ in calls]
    for round_number in range(ROUNDS + 1):
        for call, found in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            if round_number:
                found.append(time.perf_counter() - started)
    return [statistics.median(found) for found in seconds]


class Both:
    """The same networks, optimisers and frames for both ways to take the first step of a clip."""

    def __init__(self, cfg: Config, now: Phase, frames: Frames, grid: Grid) -> None:
        self.cfg, self.now, self.frames, self.specs = cfg, now, frames, role_specs(cfg)
        layout, self.frozen = colocated(self.specs, 1), build_frozen(self.specs)
        roles = build_roles(self.specs, grid.holders(layout.slots), build_modules(self.specs), self.frozen, now.rates)
        self.executor = Executor(roles, self.specs.shapes(), 0, Transport(grid), torch.float32, self.specs.buckets)
        self.engines = self.executor.engines()
        self.chunk = LaneChunk(0, now.chunk_frames)
        self.shape = StepShape((self.chunk,), n_frames_bp=now.n_frames_bp)
        self.plan = in_order(step_tasks(self.specs, self.shape, whole_chunks=True), layout)
        self.device = torch.device("cpu")

    def our_step(self) -> None:
        clip = clip_of(self.cfg, [self.frames], self.device)
        self.executor.step(self.plan, self.shape, [LanePart(clip, self.now.chunk_frames, 1.0)],
                           self.specs.active(self.chunk))
        self.executor.timer.take()

    def generate(self) -> GeneratedChunk:
        generator = self.engines["generator"].module
        assert isinstance(generator, Generator)
        real = encode_pictures([self.frames], self.device, torch.float32)
        history = generator.start_history(real[:, : self.cfg.generator.n_frames_G - 1])
        return generator.generate(encode_inputs(self.cfg, [self.frames], self.device, torch.float32), history)

    def original_step(self) -> None:
        """The same step as the original computes it (spec: losses 4 and 7)."""
        cfg, n_past = self.cfg, self.cfg.generator.n_frames_G - 1
        generated = self.generate()
        pictures = encode_pictures([self.frames], self.device, torch.float32)
        chunk_real, before = pictures[:, n_past:], pictures[:, n_past - 1 : -1]
        encoded = encode_inputs(cfg, [self.frames], self.device, torch.float32)
        labels, real = encoded.frames(slice(n_past, None)).dense().flatten(0, 1), chunk_real.flatten(0, 1)
        with torch.no_grad():
            found = self.frozen["flow"](chunk_real, before)
        flow_ref, conf = found.flow.flatten(0, 1), found.confidence.flatten(0, 1)
        previous = torch.cat([before[:, :1], generated.fake[:, :-1].detach()], dim=1).flatten(0, 1)

        def conditioned(images: Tensor) -> Tensor:
            return torch.cat([labels, images.flatten(0, 1)], dim=1)

        for_g, for_d = zip(*(sides(cfg, self.engines["image"].module, conditioned(chunk_real), conditioned(x))
                             for x in (generated.fake, generated.raw)), strict=True)
        total_g = sum(for_g) + losses.temporal_warp_loss(generated.fake.flatten(0, 1), previous, flow_ref, conf,
                                                         cfg.loss.lambda_T)
        if generated.flow is not None:
            flow = generated.flow.flatten(0, 1)
            total_g = total_g + losses.flow_loss(flow, flow_ref, conf, cfg.loss.lambda_F, 1)
            total_g = total_g + losses.flow_warp_loss(flow, before.flatten(0, 1), real, conf, cfg.loss.lambda_T)
        of_temporal = {}
        for scale, groups in enumerate(temporal_plan(cfg.discriminator, 0, self.now.chunk_frames)):
            if groups.frames:
                index, pairs = torch.tensor(groups.frames), torch.tensor(groups.flow_pairs)
                flows = found.flow[:, pairs[..., 0]].flatten(0, 1)
                stacks = [losses.temporal_input(x[:, index].flatten(0, 1), flows) for x in (chunk_real, generated.fake)]
                g, of_temporal[f"temporal_{scale}"] = sides(cfg, self.engines[f"temporal_{scale}"].module, *stacks)
                total_g = total_g + g
        with descending(self.engines["generator"]):
            total_g.backward(retain_graph=True)
        with descending(self.engines["image"]):
            sum(for_d).backward()
        for role, loss in of_temporal.items():
            with descending(self.engines[role]):
                loss.backward()


def sides(cfg: Config, network: torch.nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The generator's and the discriminator's loss from three passes."""
    on_real, on_fixed, on_fake = network(real), network(fake.detach()), network(fake)
    disc, mode = cfg.discriminator, cfg.loss.gan_mode
    features = losses.feature_matching(on_fake, on_real, disc.num_D, disc.n_layers_D, cfg.loss.lambda_feat)
    for_g = losses.gan_loss(on_fake, True, mode, for_generator=True) + features
    return for_g, 0.5 * (losses.gan_loss(on_real, True, mode) + losses.gan_loss(on_fixed, False, mode))


@contextmanager
def descending(engine: RoleEngine) -> Iterator[None]:
    """Clear a role's gradients, accumulate them inside, step."""
    engine.begin()
    yield
    for bucket in range(engine.n_buckets):
        engine.reduce(bucket)
    engine.step()


if __name__ == "__main__":
    run_main(main)
