"""Mirrors of metrics.jsonl at services that a group may have: Weights & Biases, and MLflow.

Where they send to is said by the services' own variables: WANDB_MODE=offline keeps everything below the run's folder,
MLFLOW_TRACKING_URI names a server or a folder.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.atomic import write_atomically
from vid2vid_dist.errors import UserError
from vid2vid_dist.monitor.metrics import Record
from vid2vid_dist.untrusted import read_object

log = logging.getLogger(__name__)


@dataclass
class Mirror:
    """One service. One that fails while a run is going is told in the log and left alone."""

    name: str
    send: Callable[[int, dict[str, float]], Any]  # step, figures by name
    end: Callable[[], Any]
    works: bool = True

    def write(self, record: Record) -> None:
        """Send the figures of a record that belongs to a step."""
        if "step" in record:
            self._try(lambda: self.send(record["step"], dict(_figures(record))))

    def close(self) -> None:
        self._try(self.end)

    def _try(self, act: Callable[[], Any]) -> None:
        if self.works:
            try:
                act()
            except Exception as error:  # whatever a service's client may raise
                self.works = False
                log.error("%s takes no more figures (%s); metrics.jsonl has them all", self.name, error)


def open_mirrors(run_dir: Path, cfg: Config) -> list[Mirror]:
    """Those that the configuration names. A run that is resumed goes on where it was.

    Raises `UserError` when a service does not let us in.
    """
    wanted = {"wandb": (cfg.monitor.wandb, _wandb, "wandb login, or WANDB_MODE=offline"),
              "mlflow": (cfg.monitor.mlflow, _mlflow, "check MLFLOW_TRACKING_URI")}
    mirrors = []
    known = {name: run for name, run in read_object(run_dir / "mirrors.json").items() if isinstance(run, str)}
    for name, (project, opened, fix) in wanted.items():
        if project:
            try:
                mirror, known[name] = opened(project, run_dir, cfg, known.get(name))
            except ImportError:
                raise
            except Exception as error:
                raise UserError(f"monitor.{name}={project}: {error}: {fix}, or set monitor.{name}=''") from error
            mirrors.append(mirror)
    if mirrors:
        write_atomically(run_dir / "mirrors.json", json.dumps(known))
    return mirrors


def _wandb(project: str, run_dir: Path, cfg: Config, known: str | None) -> tuple[Mirror, str]:
    import wandb

    run = wandb.init(project=project, name=cfg.run.name, id=known, resume="allow", dir=str(run_dir), config=asdict(cfg),
                     settings=wandb.Settings(console="off", silent=True))
    run.define_metric("*", step_metric="step")  # a resumed run goes back to its checkpoint; wandb's own count cannot
    return Mirror("wandb", lambda step, figures: run.log({"step": step, **figures}), run.finish), run.id


def _mlflow(experiment: str, run_dir: Path, cfg: Config, known: str | None) -> tuple[Mirror, str]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient()
    if known is None:
        found = client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else client.create_experiment(experiment)
        known = client.create_run(number, run_name=cfg.run.name).info.run_id
    run_id = known

    def send(step: int, figures: dict[str, float]) -> None:
        now = int(1000 * time.time())
        client.log_batch(run_id, [Metric(name, value, now, step) for name, value in figures.items()])

    client.update_run(run_id, "RUNNING")
    return Mirror("mlflow", send, lambda: client.set_terminated(run_id)), run_id


def _figures(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers in a record, by names such as `losses/G_GAN`."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if name or key != "step":
                yield from _figures(item, f"{name}/{key}" if name else str(key))
    elif isinstance(value, (int, float)) and math.isfinite(value):
        yield name, float(value)
