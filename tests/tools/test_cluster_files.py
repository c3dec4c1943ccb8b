"""The files for Kubernetes and SkyPilot against the schemas that these are published with."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

DOCKER = Path(__file__).parents[2] / "docker"
WHERE = "pip install 'vid2vid-dist[dev-cluster]'"
PLAIN = {"str": str, "int": int, "bool": bool, "object": object}


def strangers(found: Any, kind: str, models: list[ModuleType], where: str) -> list[str]:
    """What of a tree is not of the `kind` that the models say, by their generated tables of keys and kinds."""
    if (inner := re.fullmatch(r"(?i)(list|dict)[[(](?:str, ?)?(.+)[])]", kind)) is not None:
        if not isinstance(found, list if inner[1].lower() == "list" else dict):
            return [f"{where}: no {kind.lower()}"]
        items = enumerate(found) if isinstance(found, list) else found.items()
        return [one for key, value in items for one in strangers(value, inner[2], models, f"{where}.{key}")]
    if kind in PLAIN:
        return [] if isinstance(found, PLAIN[kind]) else [f"{where}: no {kind}"]
    model = next(getattr(module, kind) for module in models if hasattr(module, kind))
    names = {key: name for name, key in model.attribute_map.items()}
    slips = [one for key, value in found.items() for one in (
        strangers(value, model.openapi_types[names[key]], models, f"{where}.{key}") if key in names
        else [f"{where}: has no {key}"])]
    try:
        model(**{names[key]: value for key, value in found.items() if key in names})
    except ValueError:  # some versions look below it, too
        slips = slips or [f"{where}: lacks a key"]
    return slips


@pytest.fixture
def job() -> dict:
    return yaml.safe_load((DOCKER / "pytorchjob.yaml").read_text())


def of_kubeflow(job: dict) -> list[str]:
    training = pytest.importorskip("kubeflow.training.models", reason=f"{WHERE}: kubeflow-training")
    kubernetes = pytest.importorskip("kubernetes.client.models", reason=f"{WHERE}: kubernetes")
    return strangers(job, "KubeflowOrgV1PyTorchJob", [training, kubernetes], "job")


def test_a_job_of_kubeflow(job: dict) -> None:
    assert of_kubeflow(job) == []


def test_a_slip_in_a_job_of_kubeflow_is_seen(job: dict) -> None:
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    worker["replica"] = worker.pop("replicas")
    worker["restartPolicy"] = 3
    worker["template"]["spec"]["volumes"] = "shm"
    del worker["template"]["spec"]["containers"][0]["name"]
    where = "job.spec.pytorchReplicaSpecs.Worker"
    assert {*of_kubeflow(job)} == {f"{where}.restartPolicy: no str", f"{where}: has no replica",
                                   f"{where}.template.spec.volumes: no list[v1volume]",
                                   f"{where}.template.spec.containers.0: lacks a key"}


def test_a_task_of_skypilot() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason=f"{WHERE}: jsonschema")
    schemas = pytest.importorskip("sky.utils.schemas", reason=f"{WHERE}: skypilot")
    task = yaml.safe_load((DOCKER / "skypilot.yaml").read_text())
    jsonschema.validate(task, schemas.get_task_schema())
    jsonschema.validate(task["resources"], schemas.get_resources_schema())
    jsonschema.validate(task["file_mounts"]["/work"], schemas.get_storage_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**task, "nodes": 2}, schemas.get_task_schema())
