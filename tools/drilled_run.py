"""A small training run in processes of its own, and what can be done to it: signals, frozen ranks, a full disk."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.one_node import torchrun
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

ROOT = Path(__file__).resolve().parent.parent
SAVE_EVERY = 2  # steps
TINY = [
    "data.loadSize=64", "data.workers=0", "generator.ngf=4", "generator.n_blocks=2", "generator.n_downsample_G=2",
    "generator.fg=false", "generator.n_scales_spatial=2", "discriminator.ndf=4", "discriminator.n_scales_temporal=1",
    "loss.no_vgg=true", "optim.ema_decay=0.9", "schedule.n_frames_total=6", "schedule.n_generator_slots=2",
    "schedule.niter=20000", "schedule.niter_decay=0", "run.device=cpu", f"run.save_every_steps={SAVE_EVERY}",
    "monitor.log_every=1", "monitor.pictures_every=0", "monitor.tensorboard=false", "parallel.timeout=1",
]
CODE = ("launch", "vid2vid_dist", "configs")
RESTARTS = 4  # by one torchrun
LOOK = 0.002  # seconds between two looks at a save, which takes a tenth of a second
LOOK_AT_JOURNAL = 0.02  # it grows to some hundred kilobytes
PATIENCE = 240  # seconds for what takes some on idle cores
TAIL = 300  # lines of the log that are shown when something went wrong; torchrun's summary takes thirty
REPORT = re.compile(r"^\d\d:\d\d:\d\d step \d+ \S+ epoch ", re.MULTILINE)
DISK = 96  # MiB


class Run:
    """A training run of the code in `folder`'s neighbour `code`, with the shards beside it (`lay_out`)."""

    def __init__(self, folder: Path, n_ranks: int, n_steps: int = 0) -> None:
        self.folder, self.n_ranks, self._code = folder, n_ranks, folder.parent / "code"
        n_discriminators = n_ranks // 2
        placement = f"split:{n_ranks - n_discriminators}+{n_discriminators}"
        self._command = [
            *torchrun(n_ranks), f"--max-restarts={RESTARTS}", str(self._code / "launch/train.py"), *TINY,
            f"run.max_steps={n_steps}",
            f"data.shards={folder.parent / 'shards'}", f"run.root={folder.parent}", f"run.name={folder.name}",
            f"parallel.placement={placement}", "parallel.clips_per_step=2", "parallel.pipelines=1"]
        self._job: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        # Without the variable a restart now and then meets the store of the ranks that are gone (pytorch #135712).
        known = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(self._code), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as output:
            self._job = subprocess.Popen(self._command, env={**os.environ, **known}, stdout=output, stderr=output)

    def signal(self, number: int) -> None:
        """To torchrun."""
        assert self._job is not None
        self._job.send_signal(number)

    def is_over(self) -> bool:
        return self._job is None or self._job.poll() is not None

    def finish(self) -> None:
        """Let it come to its end, started again as often as it takes."""
        while True:
            assert self._job is not None
            if self._job.wait() == 0:
                return
            assert self.starts < 100, f"the run does not come to its end: {self.folder}.log"
            self.start()

    def stop(self) -> None:
        if self._job is not None and self._job.poll() is None:
            self._job.terminate()  # torchrun takes its ranks with it
            self._job.wait()

    def ranks(self) -> dict[int, int]:
        """Processes of the ranks that are alive."""
        assert self._job is not None
        found = {}
        for child in read(Path(f"/proc/{self._job.pid}/task/{self._job.pid}/children")).split():
            for entry in read(Path(f"/proc/{child}/environ")).split("\0"):
                if entry.startswith("RANK="):
                    found[int(entry.removeprefix("RANK="))] = int(child)
        return found

    def wait_for_ranks(self, last: dict[int, int]) -> dict[int, int]:
        """Processes of all ranks, none of which is of the life before; a run that is over is started again."""
        end = time.monotonic() + PATIENCE
        while True:
            found = self.ranks() if not self.is_over() else {}
            if len(found) == self.n_ranks and not set(found.values()) & set(last.values()):
                return found
            if self.is_over():
                self.start()
            assert time.monotonic() < end, f"the ranks do not come back: {self.folder}.log"
            time.sleep(LOOK_AT_JOURNAL)

    def wait_until(self, condition: Callable[[], bool], look: float = LOOK_AT_JOURNAL,
                   seconds: float = PATIENCE) -> bool:
        """Look again and again until something has happened, or the time is over; whether it has happened."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            assert not self.is_over(), "the run ended by itself"
            time.sleep(look)
        return False

    def wait_for_saves(self, born: float, n_saves: int) -> None:
        """Until the ranks that were started at `born` write their checkpoint number `n_saves`."""
        for number in range(n_saves):
            begun = self.wait_until(lambda: bool(self.being_saved(born)), LOOK)
            assert begun, "no checkpoint is written"
            if number < n_saves - 1:
                self.wait_until(lambda: not self.being_saved(born), LOOK)

    def wait_for_steps(self, n_steps: int, seconds: float = PATIENCE) -> bool:
        """Until so many steps more are reported, or the time is over; whether they are."""
        n_reports = self.n_reports()
        return self.wait_until(lambda: self.n_reports() >= n_reports + n_steps, seconds=seconds)

    def wait_for_death(self, pids: dict[int, int]) -> None:
        """Until the processes are gone, by themselves or by torchrun."""
        end = time.monotonic() + PATIENCE
        while any(map(lives, pids.values())):
            assert time.monotonic() < end, f"ranks do not end: {self.folder}.log"
            time.sleep(LOOK)

    def tell(self) -> str:
        """All that there is to know when a run does not do as it should."""
        ended = self._job.poll() if self._job is not None else None
        state = "runs" if ended is None else f"exit status {ended}"
        return "\n".join([
            *self.log().splitlines()[-TAIL:],
            f"torchrun, start {self.starts}: {state}; ranks: {self.ranks()}",
            f"status.json: {read(self.folder / 'status.json')}",
            f"latest: {self.newest() or 'none'}; checkpoints: "
            f"{', '.join(sorted(path.name for path in self.checkpoints.glob('*step_*')))}"])

    def log(self) -> str:
        return read(self.folder.parent / f"{self.folder.name}.log")

    def n_reports(self) -> int:
        """Steps that were reported, in all lives: on the console, which no full disk cuts short."""
        return len(REPORT.findall(self.log()))

    def journal(self) -> list[dict[str, Any]]:
        """All whole lines of metrics.jsonl."""
        lines = read(self.folder / "metrics.jsonl").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def status(self) -> str:
        return json.loads(read(self.folder / "status.json") or "{}").get("status", "")

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def newest(self) -> str:
        return read(self.checkpoints / "latest").strip()

    def saved_step(self) -> int:
        return int(self.newest().removeprefix("step_") or 0)

    def being_saved(self, born: float) -> list[str]:
        """Checkpoints that the ranks started at `born` (seconds since 1970) write, or wrote when they died."""
        found = []
        for path in self.checkpoints.glob(".step_*"):
            try:
                if path.stat().st_mtime >= born:
                    found.append(path.name.lstrip("."))
            except FileNotFoundError:  # it has become a checkpoint
                continue
        return found


def lay_out(root: Path) -> None:
    """Shards, and a copy of the code: a file that is edited meanwhile would meet the next start."""
    render_toy_street(root / "raw", ToyOptions(n_train=3, n_test=1, n_frames=8, width=64, height=32))
    make_shards(root / "raw", root / "shards", PackOptions(label_nc=35))
    for folder in CODE:
        shutil.copytree(ROOT / folder, root / "code" / folder, ignore=shutil.ignore_patterns("__pycache__"))


@contextmanager
def disk_of_its_own(folder: Path) -> Iterator[bool]:
    """`folder` as a small file system that can be filled; whether this user may mount one."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "none", folder], check=False,
                             capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Fill a file system to the last byte; the file that does."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**20))
        except OSError:
            return ballast


def lives(pid: int) -> bool:
    """Whether a process runs: it is neither gone nor waits to be taken note of."""
    state = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return bool(state) and state[0] not in ("Z", "X")


def read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):  # it is not there yet, or no more
        return ""
