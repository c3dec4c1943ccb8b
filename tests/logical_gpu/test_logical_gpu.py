"""What a GPU would show: no mix-up of devices, nothing that NCCL refuses, and a host that does not wait in a step."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.torchrun import torchrun
from tests.training.conftest import SMALL
from vid2vid_dist.cli.toy import TOYS
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions

ON_GPU = [option for option in SMALL if not option.startswith("run.device")] + [
    "run.device=cuda", "monitor.log_every=2", "schedule.n_frames_total=4", "schedule.max_frames_per_rank=2"]
STREET = ["generator.fg=true", "data.use_instance=true"]
PLAIN = ["optim.backend=plain", "optim.precision=fp32"]
N_STEPS = 4


@dataclass(frozen=True)
class Case:
    """A run. `offloads`: gradients of a role go to the host, its weights come back."""

    name: str
    options: tuple[str, ...] = ()
    ranks: int = 1
    toy: str = "street"
    recipe: str = "configs/base.yaml"
    offloads: bool = False


CASES = [
    Case("zero_1", ("optim.zero_stage=1", "optim.precision=fp32")),
    Case("zero_2", ("optim.zero_stage=2", "optim.precision=fp32")),
    Case("offload", ("optim.offload=true",), offloads=True),
    Case("average", ("optim.ema_decay=0.9",)),
    Case("since_2018", (
        "generator.norm=spade", "generator.spectral_norm=true", "discriminator.spectral_norm=true",
        "discriminator.augment=diff", "loss.r1_gamma=1", "loss.r1_every=2", "loss.gan_mode=logistic",
        "optim.clip_norm=1", "optim.warmup_steps=3", *STREET)),
    Case("all_scales", ("generator.n_scales_spatial=2", "schedule.niter_fix_global=1", "schedule.niter_step=1",
                        "schedule.niter=2")),
    Case("colocated", ("parallel.placement=colocated", "parallel.clips_per_step=1"), ranks=2),
    Case("split", ("parallel.placement=split",), ranks=2),
    Case("face", toy="face", recipe="configs/toy/face.yaml", options=("data.loadSize=64", "parallel.placement=auto")),
    Case("pose", toy="pose", recipe="configs/toy/pose.yaml", options=(
        "data.loadSize=112", "data.fineSize=96", "parallel.placement=auto")),
    Case("styles", toy="styles", recipe="configs/toy/styles.yaml", options=(*STREET, "data.loadSize=64")),
    Case("single_image", recipe="configs/toy/single_image.yaml", options=(
        "data.use_instance=true", "parallel.clips_per_step=1", "schedule.max_frames_per_rank=1",
        "discriminator.n_scales_temporal=0")),
]


@pytest.fixture(scope="session")
def guard(request: pytest.FixtureRequest) -> Path:
    """The device guard, compiled once for each version of torch and of its source."""
    if torch.version.cuda:
        pytest.skip(f"torch {torch.__version__} brings hooks for real GPUs: the logical one needs a build for CPUs")
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler (c++, or CXX) for the device guard")
    source, torch_folder = Path(__file__).with_name("guard.cpp"), Path(torch.__file__).parent
    key = hashlib.sha256(source.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    made = Path(request.config.cache.mkdir("logical_gpu")) / f"guard_{key}.so"
    if not made.exists():
        aside = made.with_suffix(f".{os.getpid()}")
        include = torch_folder / "include"
        subprocess.run([compiler, "-shared", "-fPIC", "-std=c++20", f"-I{include}",
                        f"-I{include / 'torch/csrc/api/include'}", str(source), "-o", str(aside),
                        f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu"], check=True)
        os.replace(aside, made)
    return made


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives the shards of a toy set of a few small frames."""
    root = tmp_path_factory.mktemp("toys")

    def shards_of(name: str) -> Path:
        out, toy = root / name, TOYS[name]
        if not out.exists():
            wide = name in ("street", "styles")
            toy.render(root / f"{name}_raw", ToyOptions(n_train=2, n_test=1, n_frames=8, width=64 if wide else 128,
                                                        height=32 if wide else 96))
            make_shards(root / f"{name}_raw", out, PackOptions(task=toy.task, label_nc=35 if wide else 0))
        return out

    return shards_of


def on_gpu(guard: Path, report: Path, *arguments: str, ranks: int = 1) -> list[dict[str, Any]]:
    """Run a command on the logical GPU; gives what each rank has seen."""
    environment = {"LOGICAL_GPU_GUARD": str(guard), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if ranks > 1:
        result = torchrun(ranks, "tests/logical_gpu/run.py", str(report), *arguments, **environment)
    else:
        result = subprocess.run([sys.executable, "-m", "tests.logical_gpu.run", str(report), *arguments], cwd=ROOT,
                                env={**os.environ, **environment}, text=True, capture_output=True, timeout=290)
    assert result.returncode == 0, f"{result.stdout}{result.stderr}"
    return [json.loads(Path(f"{report}.{rank}" if rank else report).read_text()) for rank in range(ranks)]


def waits(seen: dict[str, Any], phase: str) -> dict[str, int]:
    """How often the host has waited in a phase, by kind and place."""
    return {**seen["waits"].get(phase, {}),
            **{f"pageable at {place}": n for place, n in seen["pageable"].get(phase, {}).items()}}


def train(guard: Path, shards: Path, root: Path, case: Case, *more: str) -> list[dict[str, Any]]:
    street = STREET if case.recipe == "configs/base.yaml" else []
    return on_gpu(guard, root / f"{case.name}.json", "train", case.recipe, *ON_GPU, *street, f"data.shards={shards}",
                  f"run.root={root}", f"run.name={case.name}", f"run.max_steps={N_STEPS}", *case.options, *more,
                  ranks=case.ranks)


def assert_free(ranks: list[dict[str, Any]], case: Case) -> None:
    """In a step the host waits for what is done while the GPU has more to do: the GPU never stands still."""
    for seen in ranks:
        assert seen["refused"] == []
        assert seen["entered"]["step"] == N_STEPS
        found = waits(seen, "step")
        to_host_and_back = [place for place in found if "engine/run/optimizer.py" in place]
        assert len(found) == len(to_host_and_back) == (3 if case.offloads else 0), json.dumps(found, indent=1)
        assert seen["entered"]["checkpoint"]
        assert waits(seen, "checkpoint") == {}


def test_plain_run_and_its_videos(guard: Path, shards: Any, tmp_path: Path) -> None:
    case = Case("plain", (*PLAIN, "run.probe_step=off"))
    assert_free(train(guard, shards("street"), tmp_path, case), case)
    (seen,) = on_gpu(guard, tmp_path / "report.json", "generate", str(tmp_path / "plain"), "--device", "cuda",
                     "--how-many", "4")
    assert seen["refused"] == []
    assert seen["entered"]["frame"] == 4
    assert waits(seen, "frame") == {}
    assert sum(waits(seen, "video").values()) <= 1  # the last frame


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_run(guard: Path, shards: Any, tmp_path: Path, case: Case) -> None:
    assert_free(train(guard, shards(case.toy), tmp_path, case), case)


@pytest.mark.long
def test_resumed_run_with_validation_and_pictures(guard: Path, shards: Any, tmp_path: Path) -> None:
    """What is done between steps may wait, but mixes nothing up."""
    case = Case("resumed", ("optim.ema_decay=0.9", "parallel.placement=split"), ranks=2)
    more = ["monitor.pictures_every=1"]
    train(guard, shards("street"), tmp_path, case, "run.max_steps=1", *more)
    for seen in train(guard, shards("street"), tmp_path, case, "run.max_steps=3", *more):
        assert seen["refused"] == []
        assert seen["entered"]["step"] == 2


@pytest.mark.long
def test_what_is_made_of_a_run(guard: Path, shards: Any, tmp_path: Path) -> None:
    train(guard, shards("street"), tmp_path, Case("trained", tuple(PLAIN)))
    for name, options in (("evaluate", ["--how-many", "4", "--device", "cuda"]), ("export", [str(tmp_path / "out")])):
        (seen,) = on_gpu(guard, tmp_path / "report.json", name, str(tmp_path / "trained"), *options)
        assert seen["refused"] == []


@pytest.mark.long
def test_styles_of_a_run(guard: Path, shards: Any, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "styles")
    train(guard, shards(case.toy), tmp_path, case)
    for name, options in (("fit_styles", ["--styles", "2", "--device", "cuda"]),
                          ("generate", ["--style", "0,1", "--how-many", "2", "--device", "cuda"])):
        (seen,) = on_gpu(guard, tmp_path / "report.json", name, str(tmp_path / "styles"), *options)
        assert seen["refused"] == []
        assert waits(seen, "frame") == {}
