"""Names from data on our pages: a real browser shows them, and runs nothing of them."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.monitor.test_browser import CHROMIUM
from vid2vid_dist.config.schema import Config
from vid2vid_dist.inference.results import Results, VideoResult, folder_names
from vid2vid_dist.inference.writers import Writers
from vid2vid_dist.monitor.run import RunMonitor

NAMES = [
    "<script>document.body.dataset.bad = 1</script>", '"><img src=x onerror="document.body.dataset.bad = 1">',
    "' autofocus onfocus='document.body.dataset.bad = 1", "../../up", "a\nb", "x" * 255, "javascript:document.bad",
    "</style><script>document.body.dataset.bad = 1</script>", "\u202etxt.exe", "$(touch x)`touch x`",
]


def shown(page: Path, profile: Path) -> str:
    """The document after its scripts have run."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={profile}",
               "--virtual-time-budget=3000", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def assert_harmless(page: Path, tmp_path: Path) -> None:
    dom = shown(page, tmp_path / "profile")
    assert "data-bad" not in dom.split("<body", 1)[1].split(">", 1)[0]
    assert "<script" not in dom
    assert not re.search(r"""(src|href|poster)=["'](https?:)?//|url\(["']?(https?:)?//""", dom), "from the network"
    for name in NAMES:
        if name.isprintable():
            assert html.escape(name, quote=False) in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_a_page_of_results(tmp_path: Path) -> None:
    out = tmp_path / "out"
    results = Results(out, NAMES[0], 8, Writers(0))
    folders = folder_names(NAMES)
    assert len(set(folders)) == len(NAMES)
    assert all(path.parent == out for path in ((out / folder).resolve() for folder in folders))
    results.write_page([VideoResult(name, folder, "", ["output", name], [name], 2, {name: [1.0]})
                        for name, folder in zip(NAMES, folders, strict=True)], {name: name for name in NAMES})
    assert_harmless(out / "index.html", tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_the_page_of_a_run_with_a_foreign_journal(tmp_path: Path) -> None:
    """A run folder that was a download: its journal may say anything."""
    run = tmp_path / "run"
    run.mkdir()
    records: list[dict] = [{"time": 1, "event": name} for name in NAMES]
    records += [{"time": 1, "step": i, "sample": name, "panels": [name], "frames": 2, "l1": 0.5}
                for i, name in enumerate(NAMES)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    cfg = Config()
    cfg.run.name, cfg.monitor.tensorboard = NAMES[0], False
    RunMonitor(run, cfg, 0, 1).close()
    assert_harmless(run / "web/index.html", tmp_path)
