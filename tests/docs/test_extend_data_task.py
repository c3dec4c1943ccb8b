"""docs/extend_data_task.md works as it stands: its blocks, put where they say, make a task that packs and loads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

USE = '''
from pathlib import Path
import numpy as np, torch
from PIL import Image
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.inference.input_videos import Span, open_input
from vid2vid_dist.network_input import encode_inputs

for split in ("train", "test"):
    for i, distance in enumerate((500, 1000, 0)):
        depth, picture = np.full((32, 64), distance, np.uint16), np.zeros((32, 64, 3), np.uint8)
        for folder, array in (("depth", depth), ("B", picture)):
            path = Path(f"raw/{split}_{folder}/walk/{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
make_shards(Path("raw"), Path("shards"), PackOptions(task="depth"))
cfg = load_config("configs/depth.yaml", ["data.shards=shards", "data.loadSize=64"])
source = ClipSource.of(cfg)
frames = source.load(Request.span(source.whole(0), 0, 3))
encoded = encode_inputs(cfg, [frames], torch.device("cpu"), torch.float32).dense()
assert encoded.shape == (1, 3, cfg.label_channels, 32, 64), encoded.shape
levels = encoded.mean(dim=(0, 2, 3, 4))
assert torch.allclose(levels, torch.tensor([255, 127, 0]) / 127.5 - 1), levels
videos = open_input(Path("raw/test_depth/walk"), cfg, "test", Path("work"))
assert [frames.names for frames in videos.read(0, [Span(0, 3)])] == [["0", "1", "2"]]
'''


def test_the_page_makes_a_task(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "vid2vid_dist", tmp_path / "vid2vid_dist", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    blocks = re.findall(r"```\w+\n# (\S+/\S+)\n(.*?)```", (ROOT / "docs/extend_data_task.md").read_text(), re.DOTALL)
    touched = {place for place, _ in blocks}
    assert len(touched) == len(blocks) <= 3
    for place, text in blocks:
        path, last = tmp_path / place, text.splitlines()[-1]
        if path.exists():  # in place of the line that begins like its last one
            old = [line for line in path.read_text().splitlines() if line.split("=")[0] == last.split("=")[0]]
            assert len(old) == 1
            text = path.read_text().replace(old[0], text)
        path.write_text(text)
    done = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
