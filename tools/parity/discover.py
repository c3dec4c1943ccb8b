"""Find the cases of a golden folder and decide, from their content, which module checks each."""

import importlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from tools.parity.case import Case, parse_args


def discover(golden: Path, frames: Path | None = None) -> list[Case]:
    """Every case below `golden`, sorted by kind and name."""
    cases = [_case(path, frames) for path in golden.glob("*/*.json")]
    return sorted(cases, key=lambda case: (case.kind, case.name))


def is_covered(case: Case) -> bool:
    """Whether there is a module for the case's kind."""
    return importlib.util.find_spec(f"tools.parity.{case.kind}") is not None


def module_of(kind: str) -> ModuleType:
    """The module with `check(case) -> list[Check]`."""
    return importlib.import_module(f"tools.parity.{kind}")


def _case(path: Path, frames: Path | None) -> Case:
    meta = json.loads(path.read_text())
    return Case(_kind(path.parent.name, meta), path.stem, path, meta, frames)


def _kind(folder: str, meta: dict[str, Any]) -> str:
    """The module's name; kinds without a module are reported as not covered."""
    options = meta["options"] if "options" in meta else parse_args(meta.get("args", []))
    mode = options.get("dataset_mode", "temporal")
    if folder == "loss" and "tables" in meta:
        return "gather"
    if folder == "data":
        if "image_params" in meta or "video_params" in meta:
            return "sizes"
        if "sequences" not in meta and "calls" not in meta:
            return "curves"
        return "data" if mode == "temporal" else f"data_{mode}"
    if folder == "train_trace":
        return "trace" if mode == "temporal" else f"trace_{mode}"
    if folder == "checkpoint":
        return "checkpoint" if meta.get("category") == "checkpoint" else "layouts"
    return folder
