"""Train from coarse to fine: the stages of a chain one after the other, each from the weights of the one before.

    python -m tools.chain configs/chains/toy.yaml --ranks 2 [key=value …]
    python -m tools.chain configs/chains/street_2048.yaml --list      what it would run, a line per stage

A chain is a YAML file: `stages`, each with a `config` (relative to the file) and perhaps `overrides`, and perhaps
`overrides` for all of them; key=value on the command line wins. A stage that is finished is skipped, an interrupted
one goes on from its newest checkpoint.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.one_node import torchrun
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.load import load_config, to_yaml
from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.errors import UserError
from vid2vid_dist.toy.street import ensure_toy_shards
from vid2vid_dist.untrusted import read_yaml, reason

UNFINISHED = 3  # the status of a chain whose stage was asked to stop, or preempted
TRAIN = Path(__file__).resolve().parent.parent / "launch/train.py"


@dataclass(frozen=True)
class Stage:
    """One run of a chain: what `launch/train.py` is given, and what that makes."""

    config: Path
    overrides: tuple[str, ...]
    cfg: Config

    @property
    def run_dir(self) -> Path:
        return Path(self.cfg.run.root) / self.cfg.run.name

    @property
    def arguments(self) -> list[str]:
        return [str(self.config), *self.overrides]

    def status(self) -> str:
        """How its run stands, as `status.json` says; "" when there is none."""
        try:
            return json.loads((self.run_dir / "status.json").read_text())["status"]
        except (OSError, ValueError, KeyError):
            return ""

    def is_finished(self) -> bool:
        """Whether its run came to its end with this very configuration."""
        try:
            saved = read_yaml(self.run_dir / "config.yaml")
        except (OSError, ValueError):
            return False
        if not isinstance(saved, dict) or not isinstance(saved.get("parallel"), dict):  # cut short, or none of ours
            return False
        wanted = yaml.safe_load(to_yaml(self.cfg))
        if not self.cfg.parallel.clips_per_step:  # left to the ranks: the run has noted how many there were
            wanted["parallel"]["clips_per_step"] = saved["parallel"]["clips_per_step"]
        return self.status() == "finished" and saved == wanted


def read_chain(path: Path, overrides: list[str]) -> list[Stage]:
    """The stages of a chain file. Raises `UserError` for a file that is none, and for stages that share a run."""
    try:
        chain = read_yaml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the chain {path}: {reason(error)}") from None
    described = _entries(path, chain, {"stages", "overrides"}).get("stages")
    if not isinstance(described, list) or not described:
        raise UserError(f"{path}: no stages; write `stages:` and a line `- config: FILE.yaml` for each")
    stages: list[Stage] = []
    for number, entry in enumerate(described, 1):
        entries = _entries(path, entry, {"config", "overrides"})
        if not isinstance(entries.get("config"), str):
            raise UserError(f"{path}: stage {number} has no config: write `- config: FILE.yaml`")
        own = [*_overrides(path, chain), *_overrides(path, entries), *overrides]
        if stages:
            own.append(f"run.load_pretrain={stages[-1].run_dir}")
        config = Path(os.path.normpath(path.parent / entries["config"]))
        stages.append(Stage(config, tuple(own), load_config(config, own)))
    runs = [stage.run_dir for stage in stages]
    if len(set(runs)) < len(runs):
        raise UserError(f"{path}: two stages train in the same folder ({', '.join(map(str, runs))}): give each its "
                        "run.name in its own overrides")
    return stages


def _entries(path: Path, value: Any, known: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(value) <= known:
        raise UserError(f"{path}: expected {' and '.join(sorted(known))}, found {value!r}")
    return value


def _overrides(path: Path, entries: dict[str, Any]) -> list[str]:
    found = entries.get("overrides", [])
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise UserError(f"{path}: overrides: {found!r} is no list: write [section.key=value, …]")
    return found


def run_chain(stages: list[Stage], n_ranks: int) -> int:
    """Train what is left of a chain; the exit status of the first stage that fails, or 0."""
    for number, stage in enumerate(stages, 1):
        title = f"stage {number} of {len(stages)}, {stage.run_dir}"
        if stage.is_finished():
            print(f"chain: {title}: finished before", flush=True)
            continue
        print(f"chain: {title}", flush=True)
        if stage.cfg.data.shards == DataConfig().shards:
            ensure_toy_shards(Path(stage.cfg.data.shards))
        status = subprocess.run([*torchrun(n_ranks), str(TRAIN), *stage.arguments]).returncode
        if not status and stage.status() in ("preempted", "stopped"):
            status = UNFINISHED
        if status:
            print(f"chain: {title} ended with status {status}; the same command goes on from there", file=sys.stderr)
            return status
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("chain", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings for every stage")
    parser.add_argument("--ranks", type=int, default=1, help="processes on this machine")
    parser.add_argument("--list", action="store_true", help="print the arguments of launch/train.py for each stage")
    args = parser.parse_intermixed_args()
    stages = read_chain(args.chain, args.overrides)
    if args.list:
        print(*(shlex.join(stage.arguments) for stage in stages), sep="\n")
        return 0
    return run_chain(stages, args.ranks)


if __name__ == "__main__":
    run_main(main)
