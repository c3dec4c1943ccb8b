"""The table of training options counts whole runs only, and its judge tells frames apart."""

import json
from pathlib import Path

import pytest
import torch

from tools import toy_judge
from tools.bench_craft import Outcome, is_whole, row
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.inference.distances import kernel_distance
from vid2vid_dist.inference.figures import Evaluation, SetFigure
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street


@pytest.mark.parametrize(("status", "by_steps", "by_time"), [
    ({"status": "finished", "step": 40}, True, True),
    ({"status": "finished", "step": 30}, False, True),  # made with fewer steps
    ({"status": "preempted", "step": 30, "why": "run.time_limit"}, False, True),
    ({"status": "preempted", "step": 40, "why": "SIGTERM"}, False, False),
    ({"status": "running", "step": 0}, False, False),  # was killed
    ({"status": "failed", "step": 20, "why": "it turned to NaN"}, False, False),
    (None, False, False),
])
def test_a_run_that_broke_off_is_not_judged(
        status: dict | None, by_steps: bool, by_time: bool, tmp_path: Path) -> None:
    if status is not None:
        (tmp_path / "status.json").write_text(json.dumps(status))
    assert is_whole(tmp_path, steps=40) == by_steps
    assert is_whole(tmp_path, steps=0) == by_time


def test_a_row_gives_mean_and_spread_of_the_whole_runs() -> None:
    runs = [Outcome(40, 2.0, Evaluation({"street": {"L1": [x], "warp error": [0.5]}}, rate=8.0,
                                        sets={f"KID ({toy_judge.NAME})": SetFigure(x, "")})) for x in (0.1, 0.3)]
    cells = [cell.strip() for cell in row("hinge", [*runs, Outcome(10, 2.0, None)]).split("  ") if cell.strip()]
    assert cells == ["hinge", "30", "2.00", "0.2 (0.14)", "0.5 (0)", "0 (0)", "0.2 (0.14)", "8 (0)", "1 of 3 broke off"]


def test_the_toy_network_is_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_judge, "N_STEPS", 3)
    render_toy_street(tmp_path / "raw", ToyOptions(n_train=1, n_test=1, n_frames=6, width=64, height=32))
    make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(label_nc=35))
    cfg = load_config(None, [f"data.shards={tmp_path / 'shards'}", "data.loadSize=64", "data.label_nc=35"])
    first, again, read = (toy_judge.toy_network(cfg, tmp_path / name) for name in ("a", "b", "a"))
    frames = torch.rand(4, 3, 32, 64, generator=torch.Generator().manual_seed(0)) * 255
    assert torch.equal(first(frames), again(frames))
    assert torch.equal(first(frames), read(frames))
    assert kernel_distance(first(frames), first(frames + 40)).mean > kernel_distance(first(frames), first(frames)).mean
    assert 0 < toy_judge.share_right(first, cfg) <= 1
