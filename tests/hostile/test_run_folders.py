"""Every file of a run folder, a checkpoint, an export and shards at random: one line, or goes on; never a silent
difference."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import ROOT
from tests.hostile.attack import SECONDS, attack, mutate, mutate_safetensors, mutate_tree, peak
from tests.training.conftest import SMALL
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config, to_yaml
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import ClipSource, Frames, Request
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.export import export
from vid2vid_dist.inference.load import LoadedGenerator, load_generator
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street
from vid2vid_dist.training.checkpoint import SavedState, find_fault, newest_checkpoint, saved_checkpoints
from vid2vid_dist.training.status import tell
from vid2vid_dist.training.trainer import Trainer

LONG = (pytest.mark.long, pytest.mark.timeout(3600))
FULL = (pytest.mark.full, pytest.mark.timeout(4 * 3600))  # ten times as many


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shards, a run with two checkpoints, the newer in the middle of a clip, and an export of it."""
    root = tmp_path_factory.mktemp("made")
    render_toy_street(root / "raw", ToyOptions(n_train=2, n_test=1, n_frames=8, width=64, height=32))
    make_shards(root / "raw", root / "shards", PackOptions(label_nc=35))
    grid = open_grid("cpu")
    Trainer(config(root, root, "run.max_steps=3", "run.save_every_steps=1"), grid).run()
    dist.destroy_process_group()
    export(load_generator(root / "run"), root / "export")
    return root


def config(root: Path, shards: Path, *overrides: str) -> Config:
    return load_config(None, [
        *SMALL, "discriminator.num_D=1", f"data.shards={shards / 'shards'}", f"run.root={root}", "run.name=run",
        "optim.backend=plain", "schedule.n_frames_total=4", "schedule.max_frames_per_rank=2", "run.keep_last=2",
        "optim.ema_decay=0.9", *overrides])


def files_of(made: Path, *folders: str) -> list[Path]:
    """Those that somebody reads."""
    return sorted(p for name in folders for p in (made / name).rglob("*")
                  if p.is_file() and p.name != "lock" and not {"web", "records"} & {*p.parts} and p.suffix != ".png")


def damage(rng: random.Random, files: list[Path]) -> tuple[str, Path]:
    """Change one file, as disks, editors and attackers do; says how, and which."""
    path = rng.choice(files)
    kind = rng.choice(["bytes", "bytes", "tree", "tree", "tree", "missing", "empty", "folder", "link", "loop", "pipe",
                       "twin", "mode"])
    whole = path.read_bytes()
    if kind == "tree" and path.suffix == ".json":
        path.write_text(json.dumps(mutate_tree(rng, json.loads(whole))))
    elif kind == "tree" and path.suffix == ".safetensors":
        path.write_bytes(mutate_safetensors(rng, whole))
    elif kind in ("bytes", "tree"):
        path.write_bytes(mutate(rng, whole, [b"&a [", b"*a", b": ", b"\n", b"null", b"-1", b"9" * 40]))
    elif kind == "twin":
        path.write_bytes(rng.choice(files).read_bytes())
    elif kind == "mode":  # root reads it all the same
        path.chmod(0)
    else:
        path.unlink()
        {"missing": lambda: None, "empty": path.touch, "folder": path.mkdir, "loop": lambda: path.symlink_to(path.name),
         "link": lambda: path.symlink_to("/dev/zero"), "pipe": lambda: os.mkfifo(path)}[kind]()
    return kind, path


def repair(path: Path, whole: bytes) -> None:
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(whole)


def fresh(made: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    return Path(shutil.copytree(made, tmp_path / "copy", symlinks=True, ignore=shutil.ignore_patterns("raw", "web")))


def each(calls: list[Callable[[], object]]) -> None:
    """Make all calls; if some are refused, as the last of these was."""
    refused: UserError | None = None
    for call in calls:
        try:
            call()
        except UserError as error:
            refused = error
    if refused is not None:
        raise refused


@pytest.mark.fault(
    "Files",
    "any file of a run, an export or shards is damaged, a link, a pipe, another file",
    "one line, or goes on",
    "at most lines of the journal")
@pytest.mark.parametrize("n", [60, pytest.param(3000, marks=LONG), pytest.param(30_000, marks=FULL)])
def test_readers(n: int, made: Path, tmp_path: Path) -> None:
    """In one process; the files are put right again after each. What is read is what was written, or is refused."""
    copy = fresh(made, tmp_path)
    files = files_of(copy, "run", "export", "shards")
    whole = {path: path.read_bytes() for path in files}
    damaged: list[Path] = []
    seconds: list[float] = []

    def state() -> None:
        newest = newest_checkpoint(copy / "run")
        if newest is not None:
            assert SavedState.read(newest) in known

    def generator(folder: Path, wanted: list[LoadedGenerator]) -> None:
        found = load_generator(folder)
        weights = found.generator.state_dict()
        assert any(found.config == one.config and all(torch.equal(x, weights[name])
                                                      for name, x in one.generator.state_dict().items())
                   for one in wanted), "not what was written"

    def frames() -> Frames:
        source = ClipSource.of(config(copy, copy))
        source.identity()
        return source.load(Request.span(source.clip(1, 0, 4, 2), 0, 4))

    def same_frames() -> None:
        found = frames()
        assert [name for name, x in vars(sound).items() if isinstance(x, Tensor)
                and not torch.equal(x, vars(found)[name])] == []

    def make(rng: random.Random) -> None:
        for path in damaged:
            repair(path, whole[path])
        damaged[:] = [damage(rng, files)[1]]

    def use(_: None) -> None:
        started = time.monotonic()
        try:
            each([state, lambda: generator(copy / "run", trained), lambda: generator(copy / "export", [exported]),
                  lambda: tell(copy / "run"), lambda: read_journal(copy / "run"), same_frames])
        finally:
            seconds.append(time.monotonic() - started)

    checkpoints = saved_checkpoints(copy / "run/checkpoints")
    known = [SavedState.read(path) for path in checkpoints]
    trained = [load_generator(path) for path in checkpoints]
    exported, sound = load_generator(copy / "export"), frames()
    before = peak()
    refused = attack(n, make, use, tmp_path)
    print(f"{n} damaged: {refused} refused in one line, {n - refused} go on; the slowest took {max(seconds):.2f} s, "
          f"the process has grown by {peak() - before:.2f} GiB")
    assert n / 10 < refused < n


@pytest.mark.fault(
    "Files",
    "the same, and training goes on from what is damaged",
    "the weights of the undisturbed run, or one line",
    "steps since an older checkpoint")
@pytest.mark.parametrize("n", [3, pytest.param(60, marks=LONG), pytest.param(600, marks=FULL)])
def test_resumed_runs(n: int, made: Path, tmp_path: Path) -> None:
    """Each goes on to the weights of the undisturbed run, or says in one line why it does not."""
    grid = open_grid("cpu")
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    try:
        def weights(copy: Path) -> dict[str, Tensor]:
            Trainer(config(copy, copy, "run.max_steps=4"), grid).run()
            return load_file(copy / "run/checkpoints/step_00000004/generator.safetensors")

        wanted = weights(fresh(made, tmp_path))
        for seed in range(n):
            copy = fresh(made, tmp_path)
            what = damage(random.Random(seed), files_of(copy, "run", "shards"))
            started = time.monotonic()
            try:
                found = weights(copy)
            except UserError as error:
                told = str(error)
                found = None
            outcomes["one line" if found is None else "goes on"] += 1
            slowest = max(slowest, time.monotonic() - started)
            if found is None:
                assert "\n" not in told
                assert json.loads((copy / "run/status.json").read_text())["status"] == "failed", what
                continue
            assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == [], what
            assert find_fault(copy / "run/checkpoints/step_00000004") is None
    finally:
        dist.destroy_process_group()
    print(f"{dict(outcomes)}; the slowest took {slowest:.1f} s")


PATIENCE = 200  # seconds for a command, on shared cores

COMMANDS = {
    "train": lambda copy: to_yaml(config(copy, copy, "run.max_steps=4")),
    "generate": lambda copy: ["run", "--device", "cpu", "--how-many", "1"],
    "export": lambda copy: ["run", "exported"],
    "status": lambda copy: ["run"],
}


@pytest.mark.fault(
    "Files",
    "any file of a run is damaged, and a whole command meets it",
    "one line, or goes on",
    "as above")
@pytest.mark.parametrize("n", [pytest.param(60, marks=LONG), pytest.param(600, marks=FULL)])
def test_whole_commands(n: int, made: Path, tmp_path: Path) -> None:
    """In processes of their own: one line or nothing wrong, in time and memory."""
    outcomes: Counter[str] = Counter()
    slowest = largest = 0.0
    # A torch for GPUs takes a GiB by itself.
    idle = subprocess.Popen([sys.executable, "-c", "import vid2vid_dist.training.trainer"], cwd=ROOT)
    used = os.wait4(idle.pid, 0)[2]
    libraries, needed = used.ru_maxrss, used.ru_utime + used.ru_stime
    for seed in range(n):
        rng, copy = random.Random(1000 + seed), fresh(made, tmp_path)
        name = list(COMMANDS)[seed % len(COMMANDS)]
        kind, path = damage(rng, files_of(copy, "run", "shards"))
        what = f"{name} with {kind} {path.relative_to(copy)}"
        arguments = COMMANDS[name](copy)
        if isinstance(arguments, str):
            (copy / "config.yaml").write_text(arguments)
            arguments = ["config.yaml"]
        started = time.monotonic()
        with (tmp_path / "said").open("w") as said:
            job = subprocess.Popen([sys.executable, ROOT / f"launch/{name}.py", *arguments], cwd=copy, stdout=said,
                                   stderr=said, env={**os.environ, "HOME": str(copy), "TMPDIR": str(copy)})
            end = threading.Timer(PATIENCE, job.kill)
            end.start()
            _, status, used = os.wait4(job.pid, 0)
            end.cancel()
        code, text = os.waitstatus_to_exitcode(status), (tmp_path / "said").read_text()
        slowest, largest = max(slowest, time.monotonic() - started), max(largest, used.ru_maxrss / 2**20)
        outcomes["goes on" if code == 0 else "one line"] += 1
        assert code in (0, 2), f"{what}: exit status {code}: {text}"
        assert "Traceback" not in text, what
        assert code == 0 or len([line for line in text.splitlines() if line.startswith("error: ")]) == 1, what
        assert used.ru_maxrss < libraries + 2**19, what
        assert used.ru_utime + used.ru_stime < needed + SECONDS, what
        assert sorted(os.listdir(tmp_path)) == ["copy", "said"], what
    print(f"{dict(outcomes)}; the slowest took {slowest:.1f} s, the largest {largest:.2f} GiB")
