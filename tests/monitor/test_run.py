"""What the monitor of a run leaves on disk, and that its page stands alone."""

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from vid2vid_dist.config.schema import Config
from vid2vid_dist.monitor.gpu import GpuReading
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.monitor.page import SAMPLES_SHOWN
from vid2vid_dist.monitor.report import Sample, StepReport
from vid2vid_dist.monitor.run import RunMonitor, sample_panels

MakeReport = Callable[..., StepReport]
MakeSample = Callable[..., Sample]
GPU = GpuReading("Test GPU", 97, 61.2, 79.6, None, 61, 1980, 2619)


def monitor(run_dir: Path, rank: int = 0, tensorboard: bool = False, name: str = "street") -> RunMonitor:
    cfg = Config()
    cfg.run.name, cfg.monitor.tensorboard = name, tensorboard
    return RunMonitor(run_dir, cfg, rank, 2)


def page(run_dir: Path) -> str:
    return (run_dir / "web" / "index.html").read_text()


def references(text: str) -> list[str]:
    return [unquote(html.unescape(ref)) for ref in re.findall(r'(?:src|poster|href)="([^"]*)"', text)]


def test_other_ranks_write_nothing(tmp_path: Path, make_report: MakeReport, make_sample: MakeSample,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    other = monitor(tmp_path, rank=1)
    other.report(make_report(10), [None, None])
    other.sample(10, make_sample(2))
    other.event("hello")
    other.close()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_report_reaches_journal_console_and_page(tmp_path: Path, make_report: MakeReport,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    run = monitor(tmp_path)
    run.report(make_report(10, losses={"L1": float("nan")}), [GPU, None])
    run.report(make_report(20, losses={"L1": 0.25, "W": 0.125}), [GPU, None])
    run.event("saved <step_20>")
    run.close()
    out = capsys.readouterr().out
    assert "step 20 · epoch 3 · " in out
    assert "· L1 0.25 W 0.125\n" in out
    assert "GPU 61.2 GiB" in out
    first, second = read_journal(tmp_path).reports
    assert first["losses"] == {"L1": "nan"}
    assert second["frames_per_second"] == 5.0
    assert second["gpus"] == [json.loads(json.dumps(GPU.__dict__)), None]
    text = page(tmp_path)
    for shown in ("Test GPU", "61 °C", "saved &lt;step_20&gt;", 'aria-label="W"', "n_frames_G: 3"):
        assert shown in text


def test_the_page_stands_alone_and_finds_its_files(tmp_path: Path, make_report: MakeReport,
                                                   make_sample: MakeSample) -> None:
    run = monitor(tmp_path, name='a <b> & "c"')
    run.report(make_report(100), [None])
    run.sample(100, make_sample(3))
    run.sample(200, make_sample(1))
    run.close()
    text = page(tmp_path)
    assert "<title>a &lt;b&gt; &amp; &quot;c&quot;</title>" in text
    assert "<b> &" not in text
    assert "//" not in text.replace("<!doctype html>", "")  # no address of anything elsewhere
    found = references(text)
    assert sorted(found) == ["media/step_00000100/clip.mp4", "media/step_00000100/first.png",
                             "media/step_00000200/first.png"]
    assert all((tmp_path / "web" / ref).is_file() for ref in found)
    assert text.index("Step 200") < text.index("Step 100")  # newest first
    for caption in ("label", "fake", "real", "raw", "flow", "weight", "reference flow", "confidence"):
        assert f"<span>{caption}</span>" in text


def test_the_page_reloads_itself_while_the_run_is_on(tmp_path: Path, make_sample: MakeSample) -> None:
    run = monitor(tmp_path)
    assert 'http-equiv="refresh"' in page(tmp_path)
    run.sample(100, make_sample(1))
    assert 'http-equiv="refresh"' in page(tmp_path)
    run.close("failed")
    assert 'http-equiv="refresh"' not in page(tmp_path)
    assert '<span class="state failed">failed</span>' in page(tmp_path)


def test_a_resumed_run_goes_on_in_the_same_files(tmp_path: Path, make_report: MakeReport) -> None:
    first = monitor(tmp_path, tensorboard=True)
    for step in (10, 20, 30):
        first.report(make_report(step), [None])
    second = monitor(tmp_path, tensorboard=True)
    second.report(make_report(20), [None])
    second.close()
    assert [record["step"] for record in read_journal(tmp_path).reports] == [10, 20]
    assert "step 10 – 20" in page(tmp_path)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_long_runs_show_some_of_their_samples(tmp_path: Path, make_sample: MakeSample) -> None:
    run = monitor(tmp_path)
    sample = make_sample(1, (8, 8), flow=False)
    for step in range(1, SAMPLES_SHOWN + 21):
        run.sample(step, sample)
    run.close()
    shown = [int(step) for step in re.findall(r"Step (\d+)", page(tmp_path))]
    assert len(shown) == SAMPLES_SHOWN
    assert (shown[0], shown[-1]) == (SAMPLES_SHOWN + 20, 1)
    assert shown == sorted(shown, reverse=True)


def test_panels_without_flow_and_labels(make_sample: MakeSample) -> None:
    sample = make_sample(2, flow=False)
    assert list(sample_panels(sample, 35)) == ["label", "fake", "real", "raw", "reference flow", "confidence"]
    rgb = replace(sample, labels=torch.ones(2, 3, 8, 8))
    assert (sample_panels(rgb, 0)["label"] == 255).all()


def test_wide_panels_are_reduced(tmp_path: Path, make_sample: MakeSample) -> None:
    run = monitor(tmp_path)
    run.sample(5, make_sample(1, (16, 1100), flow=False))
    run.close()
    picture = np.asarray(Image.open(tmp_path / "web/media/step_00000005/first.png"))
    assert picture.shape == (2 * 16 // 3 + 1, 1100, 3)
