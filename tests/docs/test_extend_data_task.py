"""docs/extend_data_task.md works as it stands: its blocks, put where they say, make a task that loads and trains."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.test_blocks import SMALL, bash_blocks

PAGE = ROOT / "docs/extend_data_task.md"
USE = '''
from pathlib import Path
import numpy as np, torch
from PIL import Image
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.inference.input_videos import open_input
from vid2vid_dist.network_input import encode_inputs

for split in ("train", "test"):
    for i, distance in enumerate(2 * (500, 1000, 0)):
        depth, picture = np.full((32, 64), distance, np.uint16), np.zeros((32, 64, 3), np.uint8)
        for folder, array in (("depth", depth), ("B", picture)):
            path = Path(f"datasets/depth/{split}_{folder}/walk/{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
make_shards(Path("datasets/depth"), Path("shards"), PackOptions(task="depth"))
cfg = load_config("configs/depth.yaml", ["data.shards=shards", "data.loadSize=64"])
source = ClipSource.of(cfg)
frames = source.load(Request.span(source.whole(0), 0, 3))
encoded = encode_inputs(cfg, [frames], torch.device("cpu"), torch.float32).dense()
assert encoded.shape == (1, 3, cfg.label_channels, 32, 64), encoded.shape
levels = encoded.mean(dim=(0, 2, 3, 4))
assert torch.allclose(levels, torch.tensor([255, 127, 0]) / 127.5 - 1), levels
videos = open_input(Path("datasets/depth/test_depth/walk"), cfg, "test", Path("work"))
assert [frames.names for frames in videos.read(0, [range(3)])] == [["0", "1", "2"]]
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the page's code."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "vid2vid_dist", root / "vid2vid_dist", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", root / "configs")
    blocks = re.findall(r"```\w+\n# (\S+/\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    touched = {place for place, _ in blocks}
    assert len(touched) == len(blocks) <= 3
    for place, text in blocks:
        path, last = root / place, text.splitlines()[-1]
        if path.exists():  # in place of the line that begins like its last one
            old = [line for line in path.read_text().splitlines() if line.split("=")[0] == last.split("=")[0]]
            assert len(old) == 1
            text = path.read_text().replace(old[0], text)
        path.write_text(text)
    return root


def run(project: Path, *command: str) -> None:
    known = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
                          "PYTHONPATH": str(project)}
    done = subprocess.run(command, cwd=project, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_makes_a_task(project: Path) -> None:
    run(project, sys.executable, "-c", USE)


@pytest.mark.long
def test_its_commands_work(project: Path) -> None:
    run(project, sys.executable, "-c", USE)
    shutil.copytree(project / "datasets/depth/test_depth/walk", project / "datasets/other_depth/scene_1")
    (block,) = bash_blocks(PAGE)
    small = f"vid2vid_dist.train depth data.loadSize=64 {SMALL}"
    block = block.replace("--nproc_per_node 8", "--nproc_per_node 1").replace("vid2vid_dist.train depth", small)
    run(project, "bash", "-e", "-c", block.replace("torchrun", "vid2vid-plan depth --ranks 8\ntorchrun"))
    assert [*project.glob("runs/depth/results/*/scene_1/output.mp4")]
