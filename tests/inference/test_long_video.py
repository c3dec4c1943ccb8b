"""A long video of the toy street: constant memory, and a page that a real browser plays."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from tests.inference.conftest import small_config, write_run
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.inference.edits import LabelEdit
from vid2vid_dist.inference.generate import GenerationOptions, Outcome, generate
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.results import VideoFolder
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
N_FRAMES = 300
N_RENDERED = 12
GROWTH = 8 * 2**20  # bytes between frame 50 and frame 300 that may be anybody's: less than 40 kB a frame

# Waits until every video has moved on, and leaves what it saw in the document.
PROBE = """
<script>
addEventListener("load", async () => {
  const seen = [];
  for (const video of document.querySelectorAll("video")) {
    while (video.currentTime == 0) await new Promise(done => setTimeout(done, 100));
    seen.push([video.error === null, video.readyState >= 2, `${video.videoWidth}x${video.videoHeight}`]);
  }
  const wide = document.documentElement.scrollWidth > innerWidth;
  const captions = [...document.querySelectorAll(".chips span")].map(chip => chip.textContent);
  document.body.dataset.seen = JSON.stringify([seen, wide, captions]);
});
</script>
"""


@dataclass(frozen=True)
class Made:
    """A generated video, and the bytes that the process held after each of its frames."""

    outcome: Outcome
    held: list[int]


def resident() -> int:
    """Bytes of memory that this process holds now."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One video with an edit, generated from the first frame to the last."""
    root = tmp_path_factory.mktemp("street")
    render_toy_street(root / "raw", ToyOptions(n_train=0, n_test=1, n_frames=N_RENDERED, width=64, height=32))
    for folder in (root / "raw").glob("test_*/street0000"):
        for t in range(N_RENDERED, N_FRAMES + 2):  # there and back again
            turn = t % (2 * N_RENDERED)
            again = min(turn, 2 * N_RENDERED - 1 - turn)
            (folder / f"frame{t:06d}.png").symlink_to(folder / f"frame{again:06d}.png")
    make_shards(root / "raw", root / "shards", PackOptions(label_nc=35))
    cfg = small_config(root)
    cfg.data.label_nc, cfg.data.shards, cfg.generator.fg_labels = 35, str(root / "shards"), [26]
    add, held = VideoFolder.add, []

    def measured(*arguments: object) -> None:
        add(*arguments)  # type: ignore[arg-type]
        held.append(resident())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoFolder, "add", measured)
        options = GenerationOptions(device="cpu", edit=LabelEdit(classes=((21, 11),)))
        return Made(generate(load_generator(write_run(root, cfg)), options, root / "out"), held)


def test_memory_is_constant(made: Made) -> None:
    assert made.outcome.frames == len(made.held) == N_FRAMES
    assert made.held[-1] - made.held[49] < GROWTH


def test_no_reference_is_broken(made: Made) -> None:
    page = made.outcome.page
    found = re.findall(r'(?:src|poster|href)="([^"]*)"', page.read_text())
    references = {unquote(html.unescape(reference)) for reference in found}
    assert len(references) == 6
    assert [reference for reference in references if not (page.parent / reference).exists()] == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_a_browser_plays_it(made: Made, tmp_path: Path) -> None:
    page = made.outcome.page
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,900",
        "--autoplay-policy=no-user-gesture-required", "--virtual-time-budget=15000", probed.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'data-seen="([^"]*)"', dom)
    assert found, "the videos did not play"
    videos, too_wide, captions = json.loads(html.unescape(found[1]))
    width, height = Image.open(page.parent / "street0000/poster.png").size
    assert videos == [[True, True, f"{width}x{height}"]]
    assert captions == ["input", "input edited", "output", "edited", "real", "warp error"]
    assert not too_wide
