"""Before a long run: whether every rank has what the configuration needs, and all have the same.

Every rank looks at its own machine, all gather what they saw, measure together, and conclude (`findings`).
"""

import hashlib
import platform
import shutil
import socket
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import vid2vid_dist
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.geometry import Size
from vid2vid_dist.doctor import probe
from vid2vid_dist.doctor.findings import FAULT, Check, Needs, Seen, check_clocks, check_links, check_speed, conclude
from vid2vid_dist.engine.plan.memory import SHARD_BYTES, average_bytes
from vid2vid_dist.engine.plan.planner import expected_step
from vid2vid_dist.engine.plan.schedule import Transfer
from vid2vid_dist.engine.plan.search import Choice
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.compiling import compiler_problem
from vid2vid_dist.training.curriculum import LONGEST_CLIP, n_epochs, phase
from vid2vid_dist.version import versions

PROBE_BYTES = 2**22  # written to the disk and removed


def examine(cfg: Config, grid: Grid) -> tuple[list[Check], dict[str, Any]]:
    """All checks, on every rank; and the same with the figures behind them, for JSON."""
    seen: list[Seen] = grid.gather(look(cfg, grid.device))
    sizes = [one.frame_size for one in seen if one.frame_size]
    needs = grid.on_first(lambda: _needs_or_problem(cfg, grid, sizes[0]) if sizes else "")
    edges = needs.edges if isinstance(needs, Needs) else neighbours(grid.world_size)
    offsets, links = probe.clock_offsets(grid), probe.measure_links(grid, edges)
    seconds = probe.convolution_seconds(grid)
    checks = [*conclude(seen, needs), check_clocks(offsets), check_links(seen, links), check_speed(seen, seconds)]
    return checks, {"ok": not any(one.state == FAULT for one in checks), "checks": [asdict(one) for one in checks],
                    "ranks": [asdict(one) for one in seen], "clock_offset_s": offsets,
                    "links": [asdict(link) for link in links], "convolution_s": seconds}


def look(cfg: Config, device: torch.device) -> Seen:
    """This rank's machine."""
    on_gpu = device.type == "cuda"
    folder = _existing(Path(cfg.run.root) / cfg.run.name)
    shards_problem, frame_size = _try_shards(cfg)
    return Seen(
        host=socket.gethostname(),
        versions={**versions(), "CUDA": str(torch.version.cuda), "code": _code_hash()},
        device=torch.cuda.get_device_name(device) if on_gpu else f"CPU {platform.machine()}",
        device_id=str(torch.cuda.get_device_properties(device).uuid) if on_gpu else "",
        memory_free=torch.cuda.mem_get_info(device)[0] if on_gpu else _available_memory(),
        shm_free=shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0,
        disk_free=shutil.disk_usage(folder).free,
        disk_problem=_try_disk(folder),
        shards_problem=shards_problem,
        frame_size=frame_size,
        compiler_problem=compiler_problem(device) if cfg.optim.compile == "tasks" else "",
    )


def neighbours(n_ranks: int) -> list[tuple[int, int]]:
    """The ring that reductions go round."""
    return [(rank, (rank + 1) % n_ranks) for rank in range(n_ranks)] if n_ranks > 1 else []


def _needs_or_problem(cfg: Config, grid: Grid, frame_size: Size) -> Needs | str:
    try:
        return _plan(cfg, grid, frame_size)
    except UserError as error:
        return str(error)


def _plan(cfg: Config, grid: Grid, frame_size: Size) -> Needs:
    """What the placement of the configuration needs at the end of the schedule, when chunks are longest."""
    on_gpu, n_ranks, (width, height) = grid.device.type == "cuda", grid.world_size, frame_size
    last = phase(cfg, n_epochs(cfg), LONGEST_CLIP)
    choice = expected_step(role_specs(cfg), n_ranks, frame_size, last.chunk_frames, last.n_frames_bp, on_gpu)
    of_slots = [one.total if on_gpu else one.total - one.by_cause["context"] for one in choice.memory]
    costs = choice.plan.costs
    assert costs is not None
    n_bytes = (4 + SHARD_BYTES) * sum(costs.parameters.values()) + average_bytes(cfg, costs)
    layout = choice.plan.layout
    return Needs(of_slots * choice.n_pipelines, n_bytes * (cfg.run.keep_last + 1), _edges(choice, n_ranks),
                 f"{layout.name}: {choice.n_pipelines} × {layout.n_slots} ranks, frames of {width}x{height}")


def _edges(choice: Choice, n_ranks: int) -> list[tuple[int, int]]:
    """The ways of the plan's messages in every pipeline; where nothing but gradients travels, the ring."""
    ways = sorted({(t.source, t.destination) for t in choice.plan.sequence if isinstance(t, Transfer)})
    n_slots = choice.plan.layout.n_slots
    return [(first + a, first + b) for first in range(0, n_ranks, n_slots) for a, b in ways] or neighbours(n_ranks)


def _code_hash() -> str:
    """Of this package's sources: nodes may hold different copies of a checkout."""
    root = Path(vid2vid_dist.__file__).parent
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


def _available_memory() -> int:
    """Bytes that programs of this host can still take."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def _try_disk(folder: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
    except OSError as error:
        return f"cannot write to {folder}: {error.strerror}"
    return ""


def _try_shards(cfg: Config) -> tuple[str, Size | None]:
    """What is wrong with the training videos, "" for nothing; and the size of their frames as the networks see them."""
    try:
        source = ClipSource.of(cfg)
        first, last = source.whole(0), source.whole(source.n_videos - 1)
        for clip, frame in ((first, 0), (last, last.n_frames - 1)):
            source.load(Request.span(clip, frame, 1))
    except UserError as error:
        return str(error), None
    return "", first.geometry.size
