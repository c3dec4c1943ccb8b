"""The sets that `tools.bench_craft` compares options on: what is trained, and whose test split is made then."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vid2vid_dist.cli.toy import TOYS
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.errors import UserError
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import ensure_toy_shards, render_toy_street

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
N_FRAMES = 200  # of the test street
ALONE = "parallel.placement=data_parallel"
CLIPS = ("seq0000", "seq0001", "seq0002", "seq0003")
"""Of the Cityscapes example; the last one is made."""


@dataclass(frozen=True)
class CraftSet:
    """`config` with `options` is trained. `ready`: has the shards made, given a folder for them and the raw Cityscapes;
    gives those to train on and those to make. `has_judge`: whether `tools.toy_judge` knows its frames."""

    config: Path
    ready: Callable[[Path, Path], tuple[Path, Path]]
    options: tuple[str, ...] = ()
    has_judge: bool = False


def _street(out: Path, _: Path) -> tuple[Path, Path]:
    """The toy street; the first test video of it, over more frames."""
    ensure_toy_shards()
    shards = out / f"street_{N_FRAMES}"
    if not (shards / "test/index.json").is_file():
        short = ToyOptions()
        options = ToyOptions(n_train=1, n_test=1, n_frames=N_FRAMES, seed=short.seed + short.n_train - 1)
        render_toy_street(out / f"raw_{N_FRAMES}", options)
        make_shards(out / f"raw_{N_FRAMES}", shards, PackOptions(label_nc=35))
    return TOYS["street"].shards, shards


def _toy(name: str) -> tuple[Path, Path]:
    toy = TOYS[name]
    if not (toy.shards / "test/index.json").is_file():
        toy.render(toy.raw, toy.options)
        make_shards(toy.raw, toy.shards, PackOptions(task=toy.task))
    return toy.shards, toy.shards


def _cityscapes(out: Path, raw: Path) -> tuple[Path, Path]:
    """Three clips of the example to train on, the fourth to make."""
    if not (raw / "train_A" / CLIPS[-1]).is_dir():
        raise UserError(f"{raw} is not the Cityscapes example of {len(CLIPS)} clips: set --cityscapes to it")
    for kind in ("A", "B", "inst"):
        for clip in CLIPS:
            link = out / "raw_cityscapes" / f"{'test' if clip == CLIPS[-1] else 'train'}_{kind}" / clip
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to((raw / f"train_{kind}" / clip).resolve())
    make_shards(out / "raw_cityscapes", out / "cityscapes", PackOptions(label_nc=35, width=256))
    return out / "cityscapes", out / "cityscapes"


SETS = {
    "street": CraftSet(CONFIGS / "toy/cpu.yaml", _street, has_judge=True),
    "face": CraftSet(CONFIGS / "toy/face.yaml", lambda out, raw: _toy("face"), (ALONE, "data.workers=0")),
    "pose": CraftSet(CONFIGS / "toy/pose.yaml", lambda out, raw: _toy("pose"), (ALONE, "data.workers=0")),
    "cityscapes": CraftSet(CONFIGS / "street/256_cpu.yaml", _cityscapes, (ALONE,)),
}
