"""Names from data on our pages: a real browser shows them, and runs nothing of them."""

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
    '"><img src="http://127.0.0.1:9/x.png">', "</title><link rel=stylesheet href=http://127.0.0.1:9/x.css>",
]


def shown(page: Path, folder: Path) -> tuple[str, list[str]]:
    """The document after its scripts have run, and what the browser has asked the network for."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=3000",
               f"--user-data-dir={folder / 'profile'}", f"--log-net-log={folder / 'net.json'}", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    log = (folder / "net.json").read_text().splitlines()  # what Chromium asks for by itself has no origin
    asked = [url for line in log if '"initiator":' in line and '"initiator":"not an origin"' not in line
             for url in re.findall(r'"url":"((?:http|ws)[^"]*)"', line)]
    return dom, asked


def assert_harmless(page: Path, tmp_path: Path) -> None:
    dom, asked = shown(page, tmp_path)
    assert asked == []
    assert "data-bad" not in dom.split("<body", 1)[1].split(">", 1)[0]
    assert "<script" not in dom
    for name in NAMES:
        if name.isprintable():
            assert html.escape(name, quote=False) in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_what_a_page_asks_the_network_for_is_seen(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f"<html><body>{NAMES[-2]}</body></html>")
    assert {*shown(tmp_path / "page.html", tmp_path)[1]} == {"http://127.0.0.1:9/x.png"}


@pytest.mark.fault(
    "Files",
    "names with HTML, quotes, `../`, newlines, 255 bytes",
    "shown as they are; files stay in their folder; nothing runs, nothing is loaded",
    "nothing")
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
