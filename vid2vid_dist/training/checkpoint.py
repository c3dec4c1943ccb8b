"""Checkpoints: complete or absent, and readable on any number of ranks.

    runs/NAME/checkpoints/step_00000100/
        manifest.json                 every file with its size and SHA-256, and how many they are
        state.json                    position in the run, what it must agree with, versions
        config.yaml                   the resolved configuration
        generator.safetensors         weights of every role, for generation and as a starting point
        generator_ema.safetensors     the averaged generator, when there is one
        optimizer/ROLE/rank_00000.safetensors  fp32 master weights and Adam moments that one rank owned
        lanes/…                       clips in flight
    runs/NAME/checkpoints/latest      the name of the newest complete checkpoint

All ranks write into one folder aside; rank 0 then writes the manifest, renames the folder and moves `latest`
(`saver.py`). A run that dies in between leaves a folder whose name starts with a dot.

No state of a random generator is in it, because training has none: what is random is a function of seed, epoch and
clip number (`data/sampling.py`), and initial weights of the seed. Nothing is pickled.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vid2vid_dist.data.atomic import sync, write_atomically
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.manifest import Entries, entry_of, fault_of, read_manifest, to_json
from vid2vid_dist.models.weights import save_tensors
from vid2vid_dist.untrusted import is_whole, parse_json, read_pointer, read_text, reason, shown

NAME = re.compile(r"step_\d{8,}")  # of a checkpoint
MAX_JSON_BYTES = 2**26  # of state.json

log = logging.getLogger(__name__)

Files = dict[str, dict[str, Tensor] | str]
"""What a rank has to write: tensors or text, by path within the checkpoint."""


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
    clips_per_step: int  # which clips share a step: kept on any number of ranks
    layout: dict[str, Any]  # ranks and placement, which clips in flight remember
    data: dict[str, Any]  # what the sequence of clips depends on
    networks: dict[str, Any]  # what weights and moments depend on
    versions: dict[str, str]  # of the packages that made it
    averaged_from: int | None = None  # steps before the average began; None: it did not warm up then

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def read(cls, folder: Path) -> SavedState:
        """Raises `UserError` when the file is not what `to_json` writes, or of another version of this program."""
        path = folder / "state.json"
        try:
            fields = parse_json(read_text(path, MAX_JSON_BYTES))
            saved = cls(**{**fields, "position": Position(**fields["position"])})
        except (KeyError, TypeError):
            raise UserError(f"checkpoint {folder} was made by another version of this program, or {path} is damaged: "
                            "choose another run.name, and start from its weights with run.load_pretrain") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is damaged ({reason(error)}): {way_on(folder)}") from None
        parts = (saved.layout, saved.data, saved.networks, saved.versions)
        if not (all(map(is_whole, (*asdict(saved.position).values(), saved.clips_per_step)))
                and (saved.averaged_from is None or is_whole(saved.averaged_from))
                and type(saved.trains_all_scales) is bool and all(isinstance(part, dict) for part in parts)):
            raise UserError(f"{path} is damaged (values of the wrong kind): {way_on(folder)}")
        return saved

    def require(self, part: str, wanted: dict[str, Any], folder: Path, fix: str) -> None:
        """Raise `UserError` with the differing entries if `part` of the checkpoint is not as wanted."""
        differing = differences(getattr(self, part), json.loads(json.dumps(wanted)))  # tuples become lists
        if differing:
            raise UserError(f"checkpoint {folder} was made with other {part} ({'; '.join(differing)}): {fix}")


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The entries that differ, as text."""
    return [f"{shown(k)}: saved {shown(repr(saved.get(k)))}, now {shown(repr(now.get(k)))}"
            for k in sorted(saved.keys() | now.keys()) if saved.get(k) != now.get(k)]


def weights_file(folder: Path, role: str) -> Path:
    return folder / f"{role}.safetensors"


def checkpoint_name(step: int) -> str:
    return f"step_{step:08d}"


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The checkpoint that `latest` names, verified against its manifest; None when the run has none.

    One that is damaged is named in the log, and the one before it is taken; where `latest` is missing, the newest.
    Raises `UserError` when none is whole.
    """
    faults: list[str] = []
    for folder in _candidates(run_dir / "checkpoints"):
        fault = find_fault(folder)
        if fault is None:
            if not (folder.parent / "latest").exists():
                log.warning("%s is missing: going on from %s", folder.parent / "latest", folder)
            for line in faults:
                log.warning("checkpoint %s: going on from %s", line, folder)
            return folder
        faults.append(f"{folder} is damaged ({fault})")
    if faults:
        raise UserError(f"checkpoint {'; '.join(faults)}, and there is no whole one before: put it back, or remove "
                        f"{run_dir / 'checkpoints'}")
    return None


def _candidates(root: Path) -> Iterator[Path]:
    """The checkpoint that `latest` names and those of fewer steps, newest first.

    One beyond `latest` is of a life of the run that was given up, or was not announced before the run died.
    """
    found = saved_checkpoints(root)
    if (root / "latest").is_file():
        named = root / read_pointer(root / "latest")
        yield named
        if NAME.fullmatch(named.name):
            found = [path for path in found if n_steps(path) < n_steps(named)]
    yield from reversed(found)


def saved_checkpoints(root: Path) -> list[Path]:
    """The checkpoints in a folder, by steps. What somebody keeps beside them under another name is none of them."""
    return sorted((path for path in root.glob("step_*") if NAME.fullmatch(path.name)), key=n_steps)


def n_steps(folder: Path) -> int:
    """Steps of a checkpoint, by its name."""
    return int(folder.name.removeprefix("step_"))


def way_on(folder: Path) -> str:
    """What to do about a checkpoint that cannot be gone on from."""
    older = [path.name for path in saved_checkpoints(folder.parent) if n_steps(path) < n_steps(folder)
             and find_fault(path) is None] if NAME.fullmatch(folder.name) else []
    if older:
        return f"write the name of a whole one ({', '.join(older[-4:])}) into {folder.parent / 'latest'}"
    return f"there is no whole one before it: put it back, or remove {folder.parent}"


def require_fresh(run_dir: Path) -> None:
    """Raise `UserError` if the run has a checkpoint that it would go on from."""
    found = saved_checkpoints(run_dir / "checkpoints")
    if found:
        raise UserError(f"--fresh: {run_dir} holds {found[-1].name}; choose another run.name or remove it")


def find_fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None: every file of the manifest must be there, whole and unchanged."""
    try:
        return next((fault for name, entry in read_manifest(folder).items()
                     if (fault := fault_of(folder, name, entry))), None)
    except PermissionError as error:
        raise _forbidden(folder, error) from None
    except OSError as error:
        return f"{_name_of(error)} cannot be read: {reason(error)}"
    except ValueError as error:
        return f"manifest.json cannot be read: {reason(error)}"


def _forbidden(folder: Path, error: OSError) -> UserError:
    """It may be whole: to go on from an older one would lose steps."""
    return UserError(f"checkpoint {folder}: {_name_of(error)} may not be read by you ({reason(error)}): ask its owner "
                     f"for `chmod -R g+rX {folder.parent.parent}`")


def _name_of(error: OSError) -> str:
    return shown(Path(str(error.filename)).name)


def count_bytes(files: Files) -> int:
    """What the files of a rank take on disk, their headers aside."""
    return sum(len(content) if isinstance(content, str) else sum(x.nbytes for x in content.values())
               for content in files.values())


def prepare(run_dir: Path, step: int, n_bytes: int) -> Path:
    """Make the folder aside for `n_bytes` of all ranks. Raises `OSError` when it cannot be made, or has no room.

    What an earlier life left aside when it died in a save goes away: it may come to other steps than this one.
    """
    aside = run_dir / "checkpoints" / f".{checkpoint_name(step)}"
    for leftover in aside.parent.glob(".step_*"):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    free = shutil.disk_usage(aside).free
    if free < n_bytes * 1.01 + 2**20:  # headers, manifest
        aside.rmdir()
        raise OSError(f"it needs {n_bytes:,} bytes, {free:,} are free in {aside.parent}")
    return aside


def write_files(folder: Path, files: Files) -> Entries:
    """Write one rank's files into the folder that rank 0 has made, and force them to disk. Raises `OSError`."""
    if not _is_there(folder):
        raise OSError(f"{folder}, which rank 0 has made, is not there: set run.root to a folder that all nodes share")
    entries = {}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:
            save_tensors(content, path)
        sync(path)
        entries[name] = entry_of(path)
    return entries


def _is_there(folder: Path) -> bool:
    """Whether a folder exists, by the word of the file server: what a client remembers of it may be old."""
    try:
        folder.mkdir()
    except FileExistsError:
        return True
    except FileNotFoundError:
        return False
    folder.rmdir()
    return False


def commit(aside: Path, entries: Entries) -> Path:
    """Make a checkpoint of a folder that all ranks have written; it appears as a whole."""
    final = aside.with_name(aside.name.removeprefix("."))
    write_atomically(aside / "manifest.json", json.dumps(to_json(entries), indent=1))
    for path in (aside, *(p for p in aside.rglob("*") if p.is_dir())):
        sync(path)
    shutil.rmtree(final, ignore_errors=True)  # of an earlier life of this run, beyond its resume point
    os.replace(aside, final)
    for path in (final.parent, final.parent.parent):  # the first save has made both
        sync(path)
    write_atomically(final.parent / "latest", final.name + "\n")
    return final


def prune(run_dir: Path, step: int, keep_last: int, keep_every_steps: int) -> None:
    """Remove old checkpoints up to the one of `step`: the newest `keep_last` stay, and those at multiples of
    `keep_every_steps`. Later ones are of an earlier life of the run, and are replaced when it comes there."""
    found = [path for path in saved_checkpoints(run_dir / "checkpoints") if n_steps(path) <= step]
    n_whole = 0
    for folder in reversed(found):
        if n_whole >= keep_last and (not keep_every_steps or n_steps(folder) % keep_every_steps):
            shutil.rmtree(folder)
        elif looks_whole(folder):
            n_whole += 1


def looks_whole(folder: Path) -> bool:
    """Whether the files of a checkpoint are there, in their sizes: to hash all of them takes long."""
    try:
        return all((folder / name).stat().st_size == entry["bytes"] for name, entry in read_manifest(folder).items())
    except (OSError, ValueError):
        return False
