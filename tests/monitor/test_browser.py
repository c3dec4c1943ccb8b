"""The page in a real browser: the layout is there and the videos play."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vid2vid_dist.config.schema import Config
from vid2vid_dist.monitor.report import Sample, StepReport
from vid2vid_dist.monitor.run import RunMonitor

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Waits until every video has moved on, clicks it, and leaves what it saw in the document.
PROBE = """
<script>
addEventListener("load", async () => {
  const seen = [];
  for (const video of document.querySelectorAll("video")) {
    while (video.currentTime == 0) await new Promise(done => setTimeout(done, 100));
    video.click();
    seen.push([video.readyState >= 2, `${video.videoWidth}x${video.videoHeight}`, video.paused]);
  }
  const pictures = [...document.querySelectorAll("img")].map(img => img.complete && img.naturalWidth > 0);
  const wide = document.documentElement.scrollWidth > innerWidth;
  document.body.dataset.seen = JSON.stringify([seen, pictures, wide]);
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_in_a_browser(tmp_path: Path, width: int, make_report: Callable[..., StepReport],
                               make_sample: Callable[..., Sample]) -> None:
    cfg = Config()
    cfg.monitor.tensorboard = False
    run = RunMonitor(tmp_path, cfg, 0, 1)
    for step in (100, 200):
        run.report(make_report(step), [None])
        run.sample(step, make_sample(6))
    run.sample(300, make_sample(1))
    run.close()
    page = tmp_path / "web" / "index.html"
    # On the browser's virtual clock, videos load at once or never.
    text = page.read_text().replace('preload="none"', "autoplay").replace("</body>", f"{PROBE}</body>")
    page.write_text(text)
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900",
        "--autoplay-policy=no-user-gesture-required", "--virtual-time-budget=15000", page.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'data-seen="([^"]*)"', dom)
    assert found, "the videos did not play"
    videos, pictures, too_wide = json.loads(html.unescape(found[1]))
    assert videos == [[True, "256x64", True]] * 2
    assert pictures == [True]
    assert not too_wide
