"""Training where the system is not as elsewhere: it works, bit by bit, or says in one line why not."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import ROOT
from tests.torchrun import start_torchrun, wait_until
from tests.training.conftest import SMALL
from vid2vid_dist.training.checkpoint import find_fault, newest_checkpoint

pytestmark = pytest.mark.long
STEPS = 24


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`odd_system.c`, to be preloaded."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    path = tmp_path_factory.mktemp("odd") / "odd_system.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, ROOT / "tests/launch/odd_system.c", "-ldl"], check=True)
    return path


@pytest.fixture
def arguments(toy_shards: Path, tmp_path: Path) -> list[str]:
    return [*SMALL, "discriminator.num_D=1", "optim.backend=plain", "schedule.n_frames_total=4",
            "schedule.max_frames_per_rank=2", "schedule.niter=99", f"data.shards={toy_shards}", f"run.root={tmp_path}",
            "run.name=try"]


@pytest.fixture
def start(arguments: list[str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a run of one rank with some settings and some environment."""
    jobs: list[subprocess.Popen[str]] = []

    def one(*settings: str, **environment: str) -> subprocess.Popen[str]:
        jobs.append(subprocess.Popen([sys.executable, "launch/train.py", *arguments, *settings], cwd=ROOT, text=True,
                                     env={**os.environ, **environment}, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT))
        return jobs[-1]

    yield one
    for job in jobs:
        if job.poll() is None:
            job.kill()


def reports(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_text().count('"losses"') if path.is_file() else 0


def assert_as_undisturbed(run: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """It has finished, with the weights of a run that nothing has happened to."""
    other = start("run.name=undisturbed", f"run.max_steps={STEPS}")
    said, _ = other.communicate(timeout=200)
    assert other.returncode == 0, said
    status = json.loads((run / "status.json").read_text())
    assert (status["status"], status["step"]) == ("finished", STEPS)
    end = f"checkpoints/step_{STEPS:08d}"
    assert find_fault(run / end) is None
    found, wanted = (load_file(folder / end / "generator.safetensors")
                     for folder in (run, run.with_name("undisturbed")))
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


@pytest.mark.fault(
    "Surroundings",
    "the clock jumps by a day, and no file can be locked",
    "goes on; saves in time",
    "nothing")
def test_clocks_that_jump_where_no_file_can_be_locked(
        library: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """A day back, and forth again: saves come in time, and the run is told from a dead one."""
    run, back = tmp_path / "try", tmp_path / "back"
    odd = {"LD_PRELOAD": str(library), "ODD_LOCKS": "1", "ODD_CLOCK": str(back)}
    job = start(f"run.max_steps={STEPS}", "run.save_every_minutes=0.001", "monitor.log_every=1", "run.time_limit=60",
                **odd)
    wait_until(lambda: reports(run) >= 2)
    back.touch()
    saved = (run / "checkpoints/latest").read_text() if (run / "checkpoints/latest").exists() else ""
    told = subprocess.run([sys.executable, "launch/status.py", run], cwd=ROOT, env={**os.environ, **odd}, text=True,
                          capture_output=True, timeout=120, check=True).stdout if job.poll() is None else ""
    assert not told or ": running, step " in told or ": finished, " in told
    wait_until(lambda: job.poll() is not None or (run / "checkpoints/latest").read_text() != saved)
    back.unlink()
    said, _ = job.communicate(timeout=200)
    assert job.returncode == 0, said
    assert "cannot be locked" in said
    assert "Traceback" not in said
    times = [json.loads(line)["time"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert min(times) < max(times) - 80_000, "the clock has not jumped"
    assert_as_undisturbed(run, start)


@pytest.mark.fault(
    "Disks",
    "a quota is used up",
    "as on a full disk",
    "pictures of that time")
def test_a_quota_that_is_used_up_costs_saves(
        library: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """Unlike on a disk that is full, there seems to be room."""
    run = tmp_path / "try"
    run.mkdir()
    over = run / "over"
    job = start(f"run.max_steps={STEPS}", "run.save_every_steps=2", "monitor.log_every=1", "monitor.pictures_every=3",
                LD_PRELOAD=str(library), ODD_QUOTA=str(over))
    wait_until(lambda: (run / "checkpoints/latest").is_file())
    over.touch()
    said = ""
    assert job.stdout is not None
    while "could not be saved" not in said:
        line = job.stdout.readline()
        assert line, said
        said += line
    kept = newest_checkpoint(run)
    assert kept is not None
    assert find_fault(kept) is None
    over.unlink()
    said += job.communicate(timeout=200)[0]
    assert job.returncode == 0, said
    assert "Disk quota exceeded" in said
    assert "Traceback" not in said
    assert_as_undisturbed(run, start)


def works_or_is_one_line(job: subprocess.CompletedProcess[str]) -> None:
    said = job.stdout
    assert "Traceback" not in said
    assert job.returncode == 0 or [line.startswith("error: ") for line in said.splitlines()].count(True) == 1, said


@pytest.mark.fault(
    "Surroundings",
    "`ulimit -v`",
    "works, or one line",
    "nothing")
@pytest.mark.parametrize("gibibytes", [1, 2, 3])
def test_little_address_space(arguments: list[str], gibibytes: int) -> None:
    """`ulimit -v`, below and above what libraries take by themselves."""
    limit = gibibytes * 2**30
    works_or_is_one_line(subprocess.run(
        [sys.executable, "launch/train.py", *arguments, "run.max_steps=1"], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=200, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))))


@pytest.mark.fault(
    "Surroundings",
    "`ulimit -n 64`",
    "works",
    "nothing")
def test_64_files(arguments: list[str]) -> None:
    """`ulimit -n 64`, for torchrun and two ranks with decoding threads and TensorBoard."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        job = start_torchrun(2, "launch/train.py", *arguments, "run.max_steps=2", "data.workers=4",
                             "monitor.tensorboard=true", "monitor.pictures_every=1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    said, _ = job.communicate(timeout=240)
    assert job.returncode == 0, said


@pytest.mark.fault(
    "Surroundings",
    "the output takes nothing",
    "trains to the end",
    "what would be printed")
def test_output_that_takes_nothing(arguments: list[str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        job = subprocess.run([sys.executable, "launch/train.py", *arguments, "run.max_steps=1"], cwd=ROOT, stdout=full,
                             stderr=full, timeout=200, check=False)
    assert json.loads((tmp_path / "try/status.json").read_text())["status"] == "finished"
    assert job.returncode in (0, 1)


@pytest.mark.fault(
    "Surroundings",
    "code that is read-only, a user without name and home (`docker run --user`)",
    "works",
    "nothing")
def test_code_that_cannot_be_written_to_by_a_user_without_name_and_home(arguments: list[str], tmp_path: Path) -> None:
    """As in a container that is started with --user. What it writes follows the umask."""
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    code, home = tmp_path / "code", tmp_path / "home"
    for name in ("vid2vid_dist", "launch", "configs"):
        shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    for path in (home, tmp_path):
        os.chown(path, 54321, 54321)
    for path in tmp_path.parents:
        if path.stat().st_uid == 0 and path.name.startswith(("pytest", "popen")):
            path.chmod(0o755)
    shards = next(Path(setting.partition("=")[2]) for setting in arguments if setting.startswith("data.shards="))
    for path in shards.parents:
        if path.stat().st_uid == 0 and path.name.startswith(("pytest", "popen", "toy")):
            path.chmod(0o755)
    job = subprocess.run(
        ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", sys.executable, code / "launch/train.py",
         *arguments, "run.max_steps=1"], cwd=home, umask=0o027,
        env={"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=200, check=False)
    assert job.returncode == 0, job.stdout
    assert not list(code.rglob("__pycache__"))
    made = [path for path in (tmp_path / "try").rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in made)
    assert {oct(path.stat().st_mode & 0o777) for path in made} == {"0o640"}


@pytest.mark.fault(
    "Surroundings",
    "nothing but the run's folder can be written to (`docker run --read-only`)",
    "one line: set TMPDIR; with it, works",
    "nothing")
def test_no_place_for_temporary_files(arguments: list[str], tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mounts of one's own here")
    if any(ROOT.is_relative_to(folder) for folder in ("/tmp", "/var/tmp", "/usr/tmp")):
        pytest.skip(f"{ROOT} would be hidden with what lies in that folder: take a checkout elsewhere")
    shards = next(setting.partition("=")[2] for setting in arguments if setting.startswith("data.shards="))
    (tmp_path / "odd").mkdir()
    script = f"""
        mount --bind {tmp_path} {ROOT}/docs && cp -r {shards} {ROOT}/docs/shards
        for folder in /tmp /var/tmp /usr/tmp; do if [ -d $folder ]; then mount -t tmpfs -o ro none $folder; fi; done
        mount -o remount,ro,bind / && cd / && exec "$@"
    """
    command = ["unshare", "--mount", "--propagation=private", "bash", "-ec", script, "bash", sys.executable, "-B",
               str(ROOT / "launch/train.py"), *arguments, f"data.shards={ROOT}/docs/shards", f"run.root={ROOT}/docs",
               "run.max_steps=1"]
    known = {"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    for given, words in (({}, "set TMPDIR to a folder"), ({"TMPDIR": f"{ROOT}/docs/odd"}, "")):
        job = subprocess.run(command, env=known | given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             timeout=200, check=False)
        assert bool(job.returncode) == bool(words), job.stdout
        assert words in job.stdout
        works_or_is_one_line(job)
    assert (tmp_path / "try/checkpoints/latest").exists()
