"""Checkpoints: complete or absent.

    runs/NAME/checkpoints/step_00000100/
        manifest.json             every file with its size and SHA-256; written last
        state.json                position in the run, shape of the grid, data contract
        config.yaml               the resolved configuration
        generator.safetensors     weights of every role, for generation and as a starting point
        generator_ema.safetensors the averaged generator, when there is one
        engines/ROLE/…            DeepSpeed ZeRO state: trusted input, it is pickled
        lanes/lane_0000.safetensors  clips in flight
    runs/NAME/checkpoints/latest  the name of the newest complete checkpoint

All ranks write into one folder aside; rank 0 then writes the manifest, forces everything to disk, renames the
folder and moves `latest`. A run that dies in between leaves a folder whose name starts with a dot.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vid2vid_dist.engine.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_path_within, is_whole, parse_json, read_pointer, read_text, shown

MAX_JSON_BYTES = 2**26  # of manifest.json and state.json


@dataclass
class Position:
    """Where a run stands: the optimiser step that comes next, and the chunk that it works on."""

    step: int = 0  # optimiser steps done
    epoch: int = 1
    round: int = 0
    chunk: int = 0


@dataclass(frozen=True)
class SavedState:
    """The part of a checkpoint that is not tensors."""

    position: Position
    trains_all_scales: bool  # what the generator's optimiser covers
    grid: dict[str, Any]  # ranks, lanes, optimiser backend: the shape of the engine files
    data: dict[str, Any]  # what the sequence of clips depends on
    networks: dict[str, Any]  # what the shapes of the weights depend on

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def read(cls, folder: Path) -> SavedState:
        """Raises `UserError` when the file is not what `to_json` writes."""
        path = folder / "state.json"
        try:
            fields = parse_json(read_text(path, MAX_JSON_BYTES))
            saved = cls(**{**fields, "position": Position(**fields["position"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({shown(error)}): name an older checkpoint in "
                            f"{folder.parent / 'latest'}") from None
        if not (all(map(is_whole, asdict(saved.position).values())) and type(saved.trains_all_scales) is bool
                and all(isinstance(part, dict) for part in (saved.grid, saved.data, saved.networks))):
            raise UserError(f"{path} is damaged (values of the wrong kind): name an older checkpoint in "
                            f"{folder.parent / 'latest'}")
        return saved

    def require(self, part: str, wanted: dict[str, Any], folder: Path, fix: str) -> None:
        """Raise `UserError` with the differing entries if `part` of the checkpoint is not as wanted."""
        saved = getattr(self, part)
        wanted = json.loads(json.dumps(wanted))  # tuples become lists, as in the file
        differing = [
            f"{shown(k)}: saved {shown(repr(saved.get(k)))}, now {shown(repr(wanted.get(k)))}"
            for k in sorted(saved.keys() | wanted.keys())
            if saved.get(k) != wanted.get(k)
        ]
        if differing:
            raise UserError(f"checkpoint {folder} was made with other {part} ({'; '.join(differing)}): {fix}")


def weights_file(folder: Path, role: str) -> Path:
    return folder / f"{role}.safetensors"


def checkpoint_name(step: int) -> str:
    return f"step_{step:08d}"


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The checkpoint that `latest` names, verified against its manifest; None when the run has none.

    Raises `UserError` when it is incomplete or damaged.
    """
    pointer = run_dir / "checkpoints" / "latest"
    if not pointer.is_file():
        return None
    folder = pointer.parent / read_pointer(pointer)
    fault = find_fault(folder)
    if fault:
        raise UserError(f"checkpoint {folder} is damaged ({fault}): write the name of an older one into {pointer}")
    return folder


def find_fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None: every file of the manifest must be there, whole and unchanged."""
    try:
        files = parse_json(read_text(folder / "manifest.json", MAX_JSON_BYTES))["files"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "no readable manifest.json"
    for name, (n_bytes, sha256) in expected.items():
        if not is_path_within(name):
            return f"manifest.json names {shown(name)}, which is not inside"
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != n_bytes:
            return f"{name} has {path.stat().st_size} bytes instead of {shown(n_bytes)}"
        if _sha256(path) != sha256:
            return f"{name} was changed"
    return None


def commit(run_dir: Path, step: int, grid: Grid, write: Callable[[Path], None]) -> Path:
    """Make the checkpoint of a step: all ranks `write` into a folder aside, then it appears as a whole."""
    root = run_dir / "checkpoints"
    final, aside = root / checkpoint_name(step), root / f".{checkpoint_name(step)}"
    if grid.is_first:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    grid.barrier()
    write(aside)
    grid.barrier()
    if grid.is_first:
        _write_manifest(aside)
        shutil.rmtree(final, ignore_errors=True)  # of an earlier life of this run, beyond its resume point
        os.replace(aside, final)
        _sync(root)
        write_atomically(root / "latest", final.name + "\n")
    grid.barrier()
    return final


def prune(run_dir: Path, keep_last: int, keep_every_steps: int) -> None:
    """Remove old checkpoints: the newest `keep_last` stay, and those at multiples of `keep_every_steps`."""
    found = sorted((run_dir / "checkpoints").glob("step_*"))
    for folder in found[:-keep_last]:
        step = int(folder.name.removeprefix("step_"))
        if not keep_every_steps or step % keep_every_steps:
            shutil.rmtree(folder)


def write_atomically(path: Path, text: str) -> None:
    """Readers see the old text or the new one, also after a power cut."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    _sync(path.parent)


def _write_manifest(folder: Path) -> None:
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        files[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        _sync(path)
    write_atomically(folder / "manifest.json", json.dumps({"files": files}, indent=1))
    _sync(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors wants them: contiguous, on the CPU, and none sharing memory with another."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
