"""Rendered sets as raw folders: what the toy street, face and dancer have in common."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from vid2vid_dist.data.atomic import locked, written_aside
from vid2vid_dist.data.progress import progress
from vid2vid_dist.errors import UserError


@dataclass(frozen=True)
class ToyOptions:
    """Sizes of a set; videos and frames are counts, width and height pixels."""

    n_train: int = 8
    n_test: int = 2
    n_frames: int = 30
    width: int = 256
    height: int = 128
    seed: int = 0


@dataclass(frozen=True)
class Toy:
    """A toy set: its name, what kind of data it is (data.task), its sizes, and who renders it into a folder.

    It lies at `raw` as folders and at `shards` packed, unless the user says where.
    """

    name: str
    task: str
    options: ToyOptions
    render: Callable[[Path, ToyOptions], str]

    @property
    def raw(self) -> Path:
        return Path(f"data/toy_{self.name}")

    @property
    def shards(self) -> Path:
        return Path(f"data/shards/toy_{self.name}")


WriteVideo = Callable[[Path, str, str, int], None]
"""Of (folder, split, name, seed of the video)."""


def render_set(out: Path, what: str, version: int, options: ToyOptions, write_video: WriteVideo) -> str:
    """Write the raw folders of the set `what` below `out`; returns one line to print.

    `out` is complete or absent; there is nothing to do when it is there already. `version` is counted up when the
    same options render something else.
    """
    about = json.dumps({"version": version, **asdict(options)})
    with locked(out):
        if out.exists():
            if (out / "about.json").is_file() and (out / "about.json").read_text() == about:
                return f"{out}: up to date"
            raise UserError(f"{out} exists and is not this toy {what}: remove it or choose another folder")
        with written_aside(out) as aside, progress() as bar:
            task = bar.add_task(f"rendering {out}", total=options.n_train + options.n_test, unit="videos")
            for number in range(options.n_train + options.n_test):
                test = number - options.n_train
                split, name = ("train", f"{what}{number:04d}") if test < 0 else ("test", f"{what}{test:04d}")
                write_video(aside, split, name, options.seed + number)
                bar.advance(task)
            (aside / "about.json").write_text(about)
    return f"{out}: rendered {options.n_train} + {options.n_test} videos of {options.n_frames} frames"


def write_file(root: Path, folder: str, name: str, data: bytes) -> None:
    """Write root/folder/name and the folders on the way."""
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
