"""Compare training options on the toy street: each alone against the original's recipe, over several seeds.

    python -m tools.bench_craft [--minutes 8 | --steps N] [--seeds 3] [--only NAME …] [--out FOLDER] [key=value …]

Trains configs/toy/cpu.yaml on one rank, then makes the test street over 200 frames, each from those made before it.
L1 to the rendered frames in [-1, 1]; warp error; drift: by how much L1 grows per 100 frames; KID of a small network
that is trained here on the training frames, so it compares with nothing else; generated frames per second. Means over
the seeds, the standard deviation over them in brackets. `key=value` holds for all. What has been trained is not trained
again, what broke off is.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.toy_judge import NAME, share_right, toy_network
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.inference.evaluate import evaluate
from vid2vid_dist.inference.figures import Evaluation
from vid2vid_dist.inference.generate import GenerationOptions
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.quality import Judges
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import ensure_toy_shards, render_toy_street
from vid2vid_dist.training.preemption import Ask
from vid2vid_dist.untrusted import read_object

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs/toy/cpu.yaml"
N_FRAMES = 200
COLUMNS = ("L1", "warp error", "drift per 100 frames", "KID", "frames/s")
OPTIONS: dict[str, tuple[str, ...]] = {
    "original": (),
    "warm-up": ("optim.warmup_steps=100",),
    "clip": ("optim.clip_norm=1",),
    "hinge": ("loss.gan_mode=hinge",),
    "logistic": ("loss.gan_mode=logistic",),
    "spectral-D": ("discriminator.spectral_norm=true",),
    "spectral-GD": ("discriminator.spectral_norm=true", "generator.spectral_norm=true"),
    "augment": ("discriminator.augment=diff",),
    "R1": ("loss.r1_gamma=1",),
    "spade": ("generator.norm=spade",),
}


@dataclass
class Outcome:
    """A run: its steps, steps per second, and figures over free-running frames, None where it did not train so far as
    it should."""

    steps: int
    rate: float
    evaluation: Evaluation | None

    def figures(self) -> list[float]:
        """In the order of `COLUMNS`."""
        found = self.evaluation
        return [] if found is None else [found.mean("L1"), found.mean("warp error"), found.drift("L1"),
                                         found.sets[f"KID ({NAME})"].value, found.rate]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="of training, each run")
    parser.add_argument("--steps", type=int, default=0, help="in place of minutes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(OPTIONS), choices=list(OPTIONS), metavar="NAME")
    parser.add_argument("--frames", type=int, default=N_FRAMES, help="of the test street")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_craft"))
    args, overrides = parser.parse_known_args()
    cfg = load_config(CONFIG, overrides)  # what cannot be is refused before anything is trained
    ensure_toy_shards()
    out = args.out.absolute()
    test = long_street(out, args.frames)
    network = toy_network(cfg, out / "toy_network.safetensors")
    judges = Judges(frames=network, frames_name=NAME)
    limit = [f"run.max_steps={args.steps}"] if args.steps else [f"run.time_limit={args.minutes}"]
    print(f"{NAME}: sees the class of {100 * share_right(network, cfg):.0f}% of the cells of test frames")
    print(f"{'option':14}{'steps':>8}{'steps/s':>10}  " + "".join(f"{column:22}" for column in COLUMNS))
    for name in args.only:
        runs = []
        for seed in range(args.seeds):
            folder = train(out, name, seed, args.steps, [*overrides, *limit])
            runs.append(judged(folder, args.steps, test, judges))
        print(row(name, runs), flush=True)


def long_street(out: Path, n_frames: int) -> Path:
    """The first test video of the toy street, as shards, over more frames."""
    shards = out / f"street_{n_frames}"
    if not (shards / "test/index.json").is_file():
        short = ToyOptions()
        options = ToyOptions(n_train=1, n_test=1, n_frames=n_frames, seed=short.seed + short.n_train - 1)
        render_toy_street(out / f"raw_{n_frames}", options)
        make_shards(out / f"raw_{n_frames}", shards, PackOptions(label_nc=35))
    return shards


def train(out: Path, name: str, seed: int, steps: int, overrides: list[str]) -> Path:
    """Train with a seed, unless that has been done; the run's folder."""
    folder = out / f"{name}_{seed}"
    if not is_whole(folder, steps):
        settings = [f"run.root={out}", f"run.name={folder.name}", f"run.seed={seed}", "run.save_every_steps=0",
                    "monitor.pictures_every=0", "monitor.tensorboard=false", *OPTIONS[name], *overrides]
        subprocess.run([sys.executable, "launch/train.py", str(CONFIG), *settings], cwd=ROOT, stdout=subprocess.DEVNULL)
    return folder


def is_whole(folder: Path, steps: int) -> bool:
    """Whether a run has made its steps; without a number of steps, whether nothing but its time or the schedule has
    ended it."""
    status = read_object(folder / "status.json")
    if steps:
        return status.get("status") == "finished" and status["step"] >= steps
    return status.get("status") == "finished" or status.get("why") == Ask.TIME_LIMIT.words


def judged(folder: Path, steps: int, test: Path, judges: Judges) -> Outcome:
    """What has come of a run."""
    seconds = [report["seconds_per_step"] for report in read_journal(folder).reports]
    evaluation = None
    if is_whole(folder, steps):
        (evaluation,) = evaluate([load_generator(folder)], GenerationOptions(input=test), judges, folder / "judged")
    steps_made = read_object(folder / "status.json").get("step", 0)
    return Outcome(steps_made, 1 / statistics.median(seconds) if seconds else 0.0, evaluation)


def row(name: str, runs: list[Outcome]) -> str:
    """A line of the table."""
    whole = [figures for one in runs if (figures := one.figures())]
    cells = [_with_spread(values) for values in zip(*whole, strict=True)] or ["-"] * len(COLUMNS)
    short = f"{len(runs) - len(whole)} of {len(runs)} broke off" if len(whole) < len(runs) else ""
    steps, rate = (statistics.mean(values) for values in ([one.steps for one in runs], [one.rate for one in runs]))
    return f"{name:14}{steps:8.0f}{rate:10.2f}  {''.join(f'{cell:22}' for cell in cells)}{short}".rstrip()


def _with_spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4g}" + (f" ({statistics.stdev(values):.2g})" if len(values) > 1 else "")


if __name__ == "__main__":
    run_main(main)
