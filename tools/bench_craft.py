"""Compare training options on the toy street: each alone against the original's recipe, over several seeds.

    python -m tools.bench_craft [--minutes 8 | --steps N] [--seeds 3] [--only NAME …] [--out FOLDER] [key=value …]

Trains configs/toy/cpu.yaml on one rank, then makes the test street over 200 frames, each from those made before it.
L1 to the rendered frames in [-1, 1]; warp error; drift: by how much L1 grows per 100 frames. Means over the seeds, the
standard deviation over them in brackets. `key=value` holds for all. What has been trained is not trained again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.inference.evaluate import Evaluation, evaluate
from vid2vid_dist.inference.generate import GenerationOptions
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.quality import WeightFiles
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import ensure_toy_shards, render_toy_street

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs/toy/cpu.yaml"
N_FRAMES = 200
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
    """A run: its steps, steps per second, and figures over free-running frames, None where it did not end well."""

    steps: int
    rate: float
    evaluation: Evaluation | None

    def figures(self) -> list[float]:
        """L1, warp error, drift."""
        found = self.evaluation
        return [] if found is None else [found.mean("L1"), found.mean("warp error"), found.drift("L1")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="of training, each run")
    parser.add_argument("--steps", type=int, default=0, help="in place of minutes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(OPTIONS), choices=list(OPTIONS), metavar="NAME")
    parser.add_argument("--frames", type=int, default=N_FRAMES, help="of the test street")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_craft"))
    args, overrides = parser.parse_known_args()
    load_config(CONFIG, overrides)  # what cannot be is refused before anything is trained
    ensure_toy_shards()
    out = args.out.absolute()
    test = long_street(out, args.frames)
    limit = [f"run.max_steps={args.steps}"] if args.steps else [f"run.time_limit={args.minutes}"]
    print(f"{'option':14}{'steps':>8}{'steps/s':>10}  {'L1':16}{'warp error':20}{'drift per 100 frames'}")
    for name in args.only:
        runs = [run(out, name, seed, test, [*overrides, *limit]) for seed in range(args.seeds)]
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


def run(out: Path, name: str, seed: int, test: Path, overrides: list[str]) -> Outcome:
    """Train with a seed, and judge what has come of it."""
    folder = out / f"{name}_{seed}"
    if not (folder / "status.json").is_file():
        settings = [f"run.root={out}", f"run.name={folder.name}", f"run.seed={seed}", "run.save_every_steps=0",
                    "monitor.pictures_every=0", "monitor.tensorboard=false", *OPTIONS[name], *overrides]
        subprocess.run([sys.executable, "launch/train.py", str(CONFIG), *settings], cwd=ROOT, stdout=subprocess.DEVNULL)
    status = json.loads((folder / "status.json").read_text())
    seconds = [report["seconds_per_step"] for report in read_journal(folder).reports]
    evaluation = None
    if status["status"] != "failed":
        evaluation = evaluate(load_generator(folder), GenerationOptions(input=test), WeightFiles(), folder / "judged")
    return Outcome(status["step"], 1 / statistics.median(seconds) if seconds else 0.0, evaluation)


def row(name: str, runs: list[Outcome]) -> str:
    """A line of the table."""
    whole = [figures for one in runs if (figures := one.figures())]
    cells = []
    for values in zip(*whole, strict=True):
        spread = f" ({statistics.stdev(values):.2g})" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.4f}{spread}")
    l1, warp, drift = cells or ["-", "-", "-"]
    failed = f"  {len(runs) - len(whole)} of {len(runs)} failed" if len(whole) < len(runs) else ""
    steps, rate = (statistics.mean(values) for values in ([one.steps for one in runs], [one.rate for one in runs]))
    return f"{name:14}{steps:8.0f}{rate:10.2f}  {l1:16}{warp:20}{drift}{failed}"


if __name__ == "__main__":
    run_main(main)
