"""docs/extend.md works as it stands: its blocks, put where they say, train alike on one rank and placed on two."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import ROOT
from tests.engine.test_equality import worst_gradient, worst_loss, worst_parameter

pytestmark = pytest.mark.long
PAGE = (ROOT / "docs/extend.md").read_text()


def blocks(heading: str) -> list[tuple[str, str]]:
    """(file, code) of a section."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = (part for part in section if part.startswith(f"{heading}\n"))
    return re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL)


def copy(root: Path) -> Path:
    """The project as it is."""
    for folder in ("vid2vid_dist", "tests", "tools", "configs", "launch"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def apply(heading: str, root: Path) -> set[str]:
    """Put a section's code into a copy of the project; the files that it touches."""
    copy(root)
    for place, code in blocks(heading):
        path = root / place
        if not path.exists():
            path.write_text(code)
            continue
        lines, text = code.splitlines(keepends=True), path.read_text()
        imports = "".join(line for line in lines if line.startswith("from "))
        text = text.replace("\nfrom vid2vid_dist", f"\n{imports}from vid2vid_dist", 1)
        rest = "".join(line for line in lines if not line.startswith("from "))
        if place.endswith("build.py"):  # at the end of the list
            text = text.replace("    ))\n", f"{rest}    ))\n", 1)
        elif place.endswith("search.py"):  # at the begin of the choice
            begin = '    if kind == "split" and numbers:\n'
            text = text.replace(begin, rest + begin, 1)
        else:
            text += f"\n\n{rest}"
        path.write_text(text)
    return {place for place, _ in blocks(heading)}


def run(root: Path, ranks: int, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}",
                           *arguments], cwd=root, capture_output=True, text=True, timeout=250,
                          env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr + done.stdout


def step(root: Path, ranks: int, placement: str) -> dict[str, Tensor]:
    """Three steps on given clips, in float64 (`tests/engine/placed_clips.py`)."""
    out, job = root / f"{ranks}.pt", root / f"{ranks}.json"
    job.write_text(json.dumps([[str(out), placement, "1", "2", "2", "0", "0", "Adam", "5e-5",
                                "optim.backend=plain", "optim.precision=fp64"]]))
    run(root, ranks, "tests/engine/placed_clips.py", str(job))
    return torch.load(out, weights_only=True)


@pytest.mark.parametrize(("heading", "n_files", "role"), [("A loss", 3, ""), ("A discriminator", 4, "edges")])
def test_a_critic_is_a_file_and_a_line(heading: str, n_files: int, role: str, tmp_path: Path) -> None:
    assert len(apply(heading, tmp_path)) <= n_files
    whole, placed = step(tmp_path, 1, "colocated"), step(tmp_path, 2, "split:1+1")
    without = step(copy(tmp_path / "as_it_is"), 1, "colocated")
    for i in range(3):
        assert worst_loss(whole[f"losses.{i}"], placed[f"losses.{i}"]) < 1e-10
        assert len(whole[f"losses.{i}"]) > len(without[f"losses.{i}"])
    assert worst_parameter(whole, placed) < 1e-10
    assert worst_gradient(whole, placed) < 1e-10
    generator = [name for name in without if name.startswith("gradient.generator.")]
    assert any((whole[name] - without[name]).norm() > 1e-3 * without[name].norm() for name in generator), "it matters"
    assert not role or any(name.startswith(f"gradient.{role}.") and x.norm() > 0 for name, x in whole.items())


def test_a_placement_is_a_function_and_a_branch(toy_shards: Path, tmp_path: Path) -> None:
    assert len(apply("A placement", tmp_path)) == 2
    small = ["data.loadSize=64", "data.workers=0", "generator.ngf=4", "generator.n_blocks=2",
             "generator.n_downsample_G=2", "discriminator.ndf=4", "loss.no_vgg=true", "schedule.n_frames_total=4",
             "run.max_steps=2", "run.device=cpu", f"data.shards={toy_shards}", f"run.root={tmp_path / 'runs'}",
             "run.name=judged", "parallel.placement=one_judge", "monitor.log_every=1", "parallel.clips_per_step=1"]
    plan = subprocess.run([sys.executable, "launch/plan.py", "configs/base.yaml", "--ranks", "3", "--text", *small],
                          cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert "one judge of 3" in plan.stdout, plan.stderr
    assert re.search(r"rank 2 of 3 in a pipeline: image, temporal_0", plan.stdout)
    run(tmp_path, 2, "launch/train.py", "configs/base.yaml", *small)
    status = json.loads((tmp_path / "runs/judged/status.json").read_text())
    assert (status["status"], status["step"]) == ("finished", 2)
