"""Blocks of pages that work as they stand, one command after the other, with networks made small."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import ROOT
from tests.data.test_video_file import ONE, patch, write
from vid2vid_dist.models._torchvision import models

N_FRAMES = 40  # of a video; the last 30 of them are the test split
SMALL = ("data.workers=0 generator.ngf=4 generator.n_blocks=2 discriminator.ndf=4 discriminator.num_D=1 "
         "discriminator.n_scales_temporal=1 run.max_steps=1 run.device=cpu")
BLOCKS = {
    "own_video": ("own_videos.md", "source .venv/bin/activate"),
    "phone": ("own_videos.md", "python -m vid2vid_dist weights weights"),
    "own_maps": ("own_videos.md", "python - <<'EOF'"),
    "toy_face": ("recipes.md", "vid2vid-shards --task face"),
}
"""By the name of the run: the page, and how its block begins."""
ELSEWHERE = ("source .venv", "pip download", "unzip", "python -m vid2vid_dist weights")
"""How lines begin that get what the test makes itself: a video, and weights."""


def bash_blocks(page: Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def block(run: str) -> str:
    page, begin = BLOCKS[run]
    (found,) = (text for text in bash_blocks(ROOT / "docs" / page) if re.match(rf"{re.escape(begin)}\s", text))
    return found


def script(run: str) -> str:
    """The commands of a block. It is planned on as many ranks as the page says, and trained on two."""
    lines = []
    for line in block(run).splitlines():
        if train := re.search(r"--nproc_per_node (\d+) -m vid2vid_dist.train (\S+)", line):
            small = f"{SMALL} {'' if run == 'toy_face' else 'data.loadSize=64'}"
            lines.append(f"vid2vid-plan {train[2]} --ranks {train[1]} --text")
            lines.append(f"{line.replace(f'node {train[1]}', 'node 2')} {small}")
        elif not line.startswith(ELSEWHERE):
            lines.append(re.sub(r"--width \d+", "--width 64", line))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A talking man, a phone's video held upright with a variable rate, and random weights."""
    root = tmp_path_factory.mktemp("fresh")
    write(root / "carphone_pristine.mp4", n=N_FRAMES)
    patch(write(root / "phone.mp4", n=N_FRAMES, pts=lambda i: 33 * i + 28 * (i // 7)), b"tkhd", 40, 0, ONE, 0, -ONE, 0)
    network = models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    (root / "weights").mkdir()
    torch.save(network.state_dict(), root / "weights/deeplabv3_resnet50.pth")
    return root


@pytest.mark.long
@pytest.mark.parametrize("run", BLOCKS)
def test_block_works(run: str, folder: Path) -> None:
    known = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
                          "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-e", "-c", script(run)], cwd=folder, env=known, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [*folder.glob(f"runs/{run}/results/*/*/output.mp4")]
    if run != "toy_face":
        size = (64, 96 if run == "phone" else 43)
        assert [Image.open(path).size for path in folder.glob(f"data/{run}/t*_B/*/*.png")] == [size] * N_FRAMES
        frames = [*folder.glob(f"runs/{run}/results/*/*/frames/*.png")]
        assert len(frames) == 30 - 2, "two are what it starts from"
