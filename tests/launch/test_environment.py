"""What surrounds a command: other launchers, odd variables, output that cannot take it, limits."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.training.conftest import SMALL
from vid2vid_dist.cli.launchers import settle
from vid2vid_dist.config.schema import RunConfig
from vid2vid_dist.errors import UserError
from vid2vid_dist.training.preemption import Ask, Asked

ALONE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_NUM_TASKS")


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    for name in ALONE:
        monkeypatch.setenv(name, "")  # so that what is unset within is put back
        monkeypatch.delenv(name)

    def give(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return give


@pytest.mark.parametrize("values", [
    {"RANK": "0", "WORLD_SIZE": "1"}, {"RANK": "0"}, {"WORLD_SIZE": "1"}, {"LOCAL_RANK": "0"}, {"RANK": ""},
    {"SLURM_STEP_NUM_TASKS": ""}, {"SLURM_STEP_NUM_TASKS": "1"}, {"MASTER_ADDR": "x", "MASTER_PORT": "1"}])
def test_who_is_alone_needs_no_rank(surroundings: Callable[..., None], values: dict[str, str]) -> None:
    surroundings(**values)
    assert settle(["a=1"]) == ["a=1"]
    assert "RANK" not in os.environ
    assert "WORLD_SIZE" not in os.environ


@pytest.mark.fault(
    "Surroundings",
    "half of RANK, WORLD_SIZE, … is set",
    "alone where one is meant, else one line",
    "nothing")
@pytest.mark.parametrize(("values", "words"), [
    ({"WORLD_SIZE": "2"}, "one of several ranks, but not RANK, MASTER_ADDR, MASTER_PORT: start the ranks with"),
    ({"RANK": "1"}, "but not WORLD_SIZE"),
    ({"RANK": "0", "WORLD_SIZE": "2"}, "but not MASTER_ADDR"),
    ({"RANK": "x"}, "RANK=x is no number"),
    ({"LOCAL_RANK": "-1"}, "LOCAL_RANK=-1 is no number"),
    ({"SLURM_STEP_NUM_TASKS": "1.5"}, "SLURM_STEP_NUM_TASKS=1.5 is no number"),
    ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, "RANK=2 is not below WORLD_SIZE=2"),
    ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "65536"}, "MASTER_PORT=65536 is no port"),
    ({"SLURM_STEP_NUM_TASKS": "2"}, "srun has started 2 tasks, each of which would train alone"),
])
def test_half_a_rank_is_refused(surroundings: Callable[..., None], values: dict[str, str], words: str) -> None:
    surroundings(**values)
    with pytest.raises(UserError, match=words):
        settle([])


@pytest.mark.fault(
    "Surroundings",
    "a host name in no DNS",
    "one node: its ranks meet at 127.0.0.1; torchrun itself needs `--local-addr` "
    "([troubleshooting](troubleshooting.md))",
    "nothing")
def test_a_host_name_that_nobody_knows(surroundings: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    """That of a container, which torchrun gives its ranks: they are all there, or it is said what is missing."""
    surroundings(RANK="0", WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="nowhere.invalid", MASTER_PORT="1")
    settle([])
    assert os.environ["MASTER_ADDR"] == "127.0.0.1"
    assert "nowhere.invalid is no host that this node knows" in caplog.text
    surroundings(LOCAL_WORLD_SIZE="1", MASTER_ADDR="nowhere.invalid")
    with pytest.raises(UserError, match=r"MASTER_ADDR=nowhere\.invalid is no host .* --local-addr"):
        settle([])


@pytest.mark.fault(
    "Surroundings",
    "another launcher gives `--local-rank`",
    "works",
    "nothing")
@pytest.mark.parametrize("words", [["--local-rank=1"], ["--local_rank=1"], ["--local_rank", "1"]])
def test_local_rank_is_taken_from_the_arguments(surroundings: Callable[..., None], words: list[str]) -> None:
    surroundings(RANK="1", WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT="1")
    assert settle([*words, "a=1"]) == ["a=1"]
    assert os.environ["LOCAL_RANK"] == "1"


@pytest.mark.fault(
    "Surroundings",
    "SLURM_JOB_END_TIME is empty, no number, or past",
    "ignored, with a warning",
    "nothing")
@pytest.mark.parametrize("end", ["", "Unknown", "1700000000", "NaN"])
def test_the_end_of_another_slurm_job_is_ignored(
        end: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", end)
    assert Asked(RunConfig(root=str(tmp_path)), looks=True).now() == Ask.NOTHING
    assert bool(end) == ("SLURM_JOB_END_TIME" in caplog.text)


def command(*words: str, **how: object) -> subprocess.CompletedProcess[str]:
    """`python -m vid2vid_dist.cli…` in a process of its own; `how` goes to it."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {'; '.join(words)}"
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 120, "check": False, **how}
    return subprocess.run([sys.executable, "-c", script], **given)  # type: ignore[call-overload]


RUN_MAIN = "from vid2vid_dist.cli.entry import run_main"


@pytest.mark.fault(
    "Surroundings",
    "names beyond ASCII on an ASCII terminal",
    "printed escaped; files are UTF-8",
    "nothing")
def test_names_beyond_ascii_on_an_ascii_terminal() -> None:
    done = command(RUN_MAIN, "run_main(lambda: print('\\u6771 \\u00e9'))", env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\u6771 \\xe9\n", "")


def test_files_beyond_ascii_in_a_locale_that_knows_none(tmp_path: Path) -> None:
    """They are UTF-8 whatever the terminal speaks."""
    (tmp_path / "\u6771.txt").write_text("\u00e9", encoding="utf-8")
    read = "run_main(lambda: print(*[p.name + p.read_text() for p in Path(sys.argv[1]).iterdir()]))"
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {RUN_MAIN}; from pathlib import Path; {read}"
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, timeout=60, check=False,
                          env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "\u6771.txt\u00e9\n", b"")


def test_output_that_is_full_or_gone_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = command(RUN_MAIN, "run_main(lambda: print('x'))", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device: free some space, or choose another folder\n"
    script = f"{sys.executable} -c \"import sys; sys.path.insert(0, '{ROOT}'); {RUN_MAIN}; " \
             "run_main(lambda: [print('x' * 99) for _ in range(9999)] and None)\" | head -n 1"
    piped = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert piped.stderr == ""


def test_little_memory_and_few_files() -> None:
    done = command(RUN_MAIN, "run_main(lambda: bytearray(2**40) and None)",
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33)))
    assert done.stderr.startswith("error: out of memory (MemoryError): raise `ulimit -v`")
    done = command(RUN_MAIN, "run_main(lambda: [open('/dev/null') for _ in range(99)] and None)",
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    assert done.stderr == "error: /dev/null: Too many open files: raise `ulimit -n`, or lower data.workers\n"


def test_files_follow_the_umask(tmp_path: Path) -> None:
    done = command("import torch", "from pathlib import Path",
                   "from vid2vid_dist.models.weights import save_tensors",
                   f"save_tensors({{'a': torch.zeros(2)}}, Path({str(tmp_path / 'a.safetensors')!r}))", umask=0o027)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640


def test_a_crash_of_foreign_code_leaves_its_stack() -> None:
    done = command(RUN_MAIN, "import os, signal", "run_main(lambda: os.kill(os.getpid(), signal.SIGSEGV))")
    assert done.returncode == -11
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "in <lambda>" in done.stderr


@pytest.mark.fault(
    "Surroundings",
    "neither HOME nor TMPDIR",
    "works",
    "nothing")
@pytest.mark.long
def test_neither_home_nor_a_place_for_temporary_files(toy_shards: Path, tmp_path: Path) -> None:
    job = subprocess.run(
        [sys.executable, ROOT / "launch/train.py", *SMALL, f"data.shards={toy_shards}", f"run.root={tmp_path}",
         "run.name=try", "run.max_steps=1"], capture_output=True, text=True, timeout=240, check=False,
        env={"TMPDIR": str(tmp_path / "missing"), "OMP_NUM_THREADS": "1"})
    assert job.returncode == 0, job.stderr
    assert (tmp_path / "try/checkpoints/latest").exists()
