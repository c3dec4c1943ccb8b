"""The parity tool itself: option names, kinds by content, and that a failure is one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.parity.case import Case, Check, parse_args
from tools.parity.discover import discover
from tools.parity.options import config_of_case


def test_arguments_of_the_original() -> None:
    args = "--dataroot --fg --lr 1e-4 --fg_labels 26,24 --n_gpus_gen -1 --name x --TTUR"
    assert parse_args(args.split()) == {"dataroot": True, "fg": True, "lr": 1e-4, "fg_labels": "26,24",
                                "n_gpus_gen": -1, "name": "x", "TTUR": True}


def test_options_become_ours_and_defaults_are_the_originals() -> None:
    config = config_of_case({"fg_labels": "26,24", "max_frames_per_gpu": 2, "ngf": 4, "batchSize": 2})
    assert config.generator.fg_labels == [26, 24]
    assert config.schedule.max_frames_per_rank == 2
    assert config.generator.ngf == 4
    assert config.parallel.batch_size == 2
    assert config.data.label_nc == 0


@pytest.mark.parametrize(("options", "slots"), [
    ({}, 1),
    ({"gpu_ids": "0,1,2,3"}, 4),
    ({"gpu_ids": "0,1,2,3", "n_gpus_gen": 3}, 3),
    ({"gpu_ids": "0,1,2,3", "n_gpus_gen": 3, "batchSize": 3}, 1),
    ({"gpu_ids": "-1", "n_gpus_gen": 0}, 1),
])
def test_generator_gpus_become_slots(options: dict, slots: int) -> None:
    assert config_of_case(options).schedule.n_generator_slots == slots


def test_unknown_option_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown option of the original: warp_ratio=1"):
        config_of_case({"warp_ratio": 1})


@pytest.mark.parametrize(("folder", "meta", "kind"), [
    ("generator", {"options": {}}, "generator"),
    ("loss", {"options": {}, "losses": {}}, "loss"),
    ("loss", {"tables": []}, "gather"),
    ("data", {"args": [], "sequences": []}, "data"),
    ("data", {"args": [], "calls": []}, "data"),
    ("data", {"args": ["--dataset_mode", "face"], "calls": []}, "data_face"),
    ("data", {"video_params": []}, "sizes"),
    ("data", {"rows": []}, "curves"),
    ("train_trace", {"options": {"dataset_mode": "temporal"}}, "trace"),
    ("train_trace", {"options": {"dataset_mode": "pose"}}, "trace_pose"),
    ("checkpoint", {"any layout": {"config": {}}}, "layouts"),
    ("checkpoint", {"category": "checkpoint", "args": []}, "checkpoint"),
    ("schedule", {"tables": []}, "schedule"),
])
def test_kind_comes_from_the_content(tmp_path: Path, folder: str, meta: dict, kind: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "any_name.json").write_text(json.dumps(meta))
    (case,) = discover(tmp_path)
    assert case.kind == kind


def test_nan_and_excess_fail() -> None:
    assert Check("x", 1e-6, 1e-6).ok
    assert not Check("x", 2e-6, 1e-6).ok
    assert not Check("x", float("nan"), 1e-6).ok


def test_a_crash_is_a_failed_row_and_the_others_still_run(tmp_path: Path) -> None:
    for name, options in (("a", {}), ("b", {"nonsense": 1})):
        (tmp_path / "generator").mkdir(exist_ok=True)
        (tmp_path / "generator" / f"{name}.json").write_text(json.dumps({"options": options}))
    result = subprocess.run([sys.executable, "-m", "tools.parity", "--golden", str(tmp_path)],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "2 cases, 2 failed" in result.stdout


def test_no_golden_folder_is_one_line_and_status_2(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-m", "tools.parity", "--golden", str(tmp_path / "none")],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: no golden data at")


def test_case_reads_options_or_arguments(tmp_path: Path) -> None:
    assert Case("data", "x", tmp_path, {"args": ["--ngf", "4"]}).options == {"ngf": 4}
    assert Case("data", "x", tmp_path, {"options": {"ngf": 8}}).options == {"ngf": 8}
