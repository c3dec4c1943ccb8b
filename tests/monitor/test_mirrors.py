"""A run's figures at Weights & Biases and MLflow, both without network."""

import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.monitor.report import StepReport
from vid2vid_dist.monitor.run import RunMonitor

MakeReport = Callable[..., StepReport]


def config(**mirror: str) -> Config:
    cfg = Config()
    cfg.run.name, cfg.monitor.tensorboard = "street", False
    for name, project in mirror.items():
        setattr(cfg.monitor, name, project)
    return cfg


def train_twice(run_dir: Path, cfg: Config, make_report: MakeReport) -> None:
    """The second time from a checkpoint before the last report."""
    for steps in ((10, 20), (15, 25)):
        run = RunMonitor(run_dir, cfg, 0, 1)
        for step in steps:
            run.report(make_report(step, losses={"L1": step / 100, "G_GAN": float("nan")}), [None])
        run.event("saved")
        run.close()
        time.sleep(1.1)  # wandb names the folder of a process by the second


def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let MLflow keep its runs in files: its client brings no database."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def kept(log: bytes) -> Iterator[bytes]:
    """The records of wandb's offline file, which are laid out as in LevelDB's log: pieces in blocks of 32 KiB."""
    block, place, record = 2**15, 7, b""
    while place + 7 <= len(log):
        if block - place % block < 7:  # no room for the head of a piece
            place += block - place % block
            continue
        length, kind = struct.unpack("<HB", log[place + 4:place + 7])
        record += log[place + 7:place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def test_mlflow_has_every_report(tmp_path: Path, make_report: MakeReport, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'vid2vid-dist[mirrors]'")
    folder(tmp_path, monkeypatch)
    train_twice(tmp_path / "run", config(mlflow="group"), make_report)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("group").experiment_id])
    assert (run.info.run_name, run.info.status) == ("street", "FINISHED")
    history = client.get_metric_history(run.info.run_id, "losses/L1")
    assert sorted((point.step, point.value) for point in history) == [(10, 0.1), (15, 0.15), (20, 0.2), (25, 0.25)]
    assert "losses/G_GAN" not in run.data.metrics


def test_wandb_has_every_report_and_needs_no_network(
        tmp_path: Path, make_report: MakeReport, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'vid2vid-dist[mirrors]'")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    train_twice(tmp_path / "run", config(wandb="group"), make_report)
    points, names = [], set()
    for path in (tmp_path / "run/wandb").glob("offline-run-*/*.wandb"):
        for record in map(Record.FromString, kept(path.read_bytes())):
            if record.HasField("run"):
                names.add((record.run.project, record.run.display_name, record.run.run_id))
            if record.HasField("history"):
                found = {item.key or "/".join(item.nested_key): json.loads(item.value_json)
                         for item in record.history.item}
                points.append((found["step"], found["losses/L1"]))
    assert sorted(points) == [(10, 0.1), (15, 0.15), (20, 0.2), (25, 0.25)]
    known = json.loads((tmp_path / "run/mirrors.json").read_text())
    assert names == {("group", "street", known["wandb"])}


def test_a_service_that_is_away_is_told_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="pip install 'vid2vid-dist[mirrors]'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://")
    with pytest.raises(UserError, match=r"monitor\.mlflow=group: .*check MLFLOW_TRACKING_URI"):
        RunMonitor(tmp_path, config(mlflow="group"), 0, 1)


def test_a_service_that_fails_does_not_stop_a_run(
        tmp_path: Path, make_report: MakeReport, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'vid2vid-dist[mirrors]'")
    folder(tmp_path, monkeypatch)
    run = RunMonitor(tmp_path / "run", config(mlflow="group"), 0, 1)
    client = mlflow.MlflowClient()
    (known,) = client.search_runs([client.get_experiment_by_name("group").experiment_id])
    client.delete_run(known.info.run_id)
    for step in (10, 20):
        run.report(make_report(step), [None])
    run.close()
    assert caplog.text.count("mlflow takes no more figures") == 1
    assert (tmp_path / "run/metrics.jsonl").read_text().count('"losses"') == 2


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_without_the_package_the_command_names_the_extra(
        name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vid2vid_dist.cli.failures import EXTRA_OF

    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        RunMonitor(tmp_path, config(**{name: "group"}), 0, 1)
    assert EXTRA_OF[str(caught.value.name)] == "mirrors"
