"""Compare training options on one rank: each alone against the original's recipe, over several seeds.

    python -m tools.bench_craft [--minutes 8 | --steps N] [--seeds 3] [--only NAME …] [--on street] [key=value …]
    python -m tools.bench_craft --on face|pose|cityscapes …   the original's recipe against configs/street/modern
    python -m tools.bench_craft --stability                   runs of a tiny street at ten times the learning rate

Then the test videos are made, each frame from those made before it; of the toy street 200 frames. L1 to the real
frames in [-1, 1]; warp error; drift: by how much L1 grows per 100 frames; KID of a small network that is trained here
on the training frames of the toy street, so it compares with nothing else, elsewhere SSIM; generated frames per second.
Means over the seeds, the standard deviation over them in brackets. `key=value` holds for all. What has been trained
in the folder is not trained again, what broke off is: other settings want another `--out`.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.craft_sets import CONFIGS, SETS, CraftSet
from tools.toy_judge import NAME, error_of_the_mean_frame, share_right, toy_network
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.load import flatten, load_config
from vid2vid_dist.inference.evaluate import evaluate
from vid2vid_dist.inference.figures import Evaluation
from vid2vid_dist.inference.generate import GenerationOptions
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.quality import Judges
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.training.preemption import Ask
from vid2vid_dist.untrusted import read_object

ROOT = CONFIGS.parent
KID = f"KID ({NAME})"
OPTIONS: dict[str, tuple[str, ...]] = {
    "original": (),
    "raw": (),  # the same runs without averaged weights
    "warm-up": ("optim.warmup_steps=100",),
    "clip": ("optim.clip_norm=1",),
    "hinge": ("loss.gan_mode=hinge",),
    "logistic": ("loss.gan_mode=logistic",),
    "spectral-D": ("discriminator.spectral_norm=true",),
    "spectral-GD": ("discriminator.spectral_norm=true", "generator.spectral_norm=true"),
    "augment": ("discriminator.augment=diff",),
    "R1": ("loss.r1_gamma=1",),
    "instance": ("generator.norm=instance",),
    "spade": ("generator.norm=spade",),
    "hinge+augment": ("loss.gan_mode=hinge", "discriminator.augment=diff"),
}
N_STABLE, LR_STABLE = 1500, 10  # steps, times the learning rate
TINY = ("data.loadSize=64", "generator.ngf=8", "generator.n_blocks=2", "discriminator.ndf=8", "discriminator.num_D=1",
        "discriminator.n_scales_temporal=1", f"schedule.niter={N_STABLE}", f"schedule.niter_step={N_STABLE}")


@dataclass
class Outcome:
    """A run: its steps, steps per second, and figures over free-running frames, None where it did not train so far as
    it should."""

    steps: int
    rate: float
    evaluation: Evaluation | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="of training, each run")
    parser.add_argument("--steps", type=int, default=0, help="in place of minutes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--on", choices=list(SETS), default="street")
    parser.add_argument("--only", nargs="+", choices=[*OPTIONS, "modern"], metavar="NAME")
    parser.add_argument("--stability", action="store_true")
    parser.add_argument("--cityscapes", type=Path, default=Path("../shared/cityscapes_example"), help="raw folders")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_craft"))
    args, overrides = parser.parse_known_args()
    on, out = SETS[args.on], args.out.absolute() / args.on
    load_config(on.config, overrides)  # what cannot be is refused before anything is trained
    shards, test = on.ready(out, args.cityscapes)
    overrides = [*on.options, f"data.shards={shards}", *overrides]
    if args.stability:
        stability(on, out, overrides, args.seeds, args.steps or N_STABLE)
        return
    judges = Judges()
    if on.has_judge:
        cfg = load_config(on.config, overrides)
        network = toy_network(cfg, out / "toy_network.safetensors")
        judges = Judges(frames=network, frames_name=NAME)
        print(f"{NAME}: sees the class of {100 * share_right(network, cfg):.0f}% of the cells of test frames")
    limit = [f"run.max_steps={args.steps}"] if args.steps else [f"run.time_limit={args.minutes}"]
    columns = ("L1", "warp error", "drift per 100 frames", "KID" if on.has_judge else "SSIM", "frames/s")
    print(f"{'option':14}{'steps':>8}{'steps/s':>10}  " + "".join(f"{column:22}" for column in columns))
    real = float("nan")
    for name in args.only or ([*OPTIONS] if on.has_judge else ["original", "modern"]):
        runs = []
        for seed in range(args.seeds):
            run = "original" if name == "raw" else name
            folder = train(on, out / f"{run}_{seed}", seed, args.steps, [*options_of(name), *overrides, *limit])
            runs.append(judged(folder, args.steps, test, judges, raw_weights=name == "raw"))
            if (found := runs[-1].evaluation) is not None:
                real = found.mean("warp error of the real")
        print(row(name, runs), flush=True)
    print(f"warp error of the real frames: {real:.4g}")


def options_of(name: str) -> tuple[str, ...]:
    """The settings of a row. "modern": what configs/street/modern has of those that are compared here."""
    if name != "modern":
        return OPTIONS[name]
    keys = {setting.partition("=")[0] for settings in OPTIONS.values() for setting in settings}
    modern, plain = (flatten(load_config(CONFIGS / f"street/{file}")) for file in ("modern/512.yaml", "512.yaml"))
    return tuple(f"{key}={str(modern[key]).lower()}" for key in sorted(keys) if modern[key] != plain[key])


def train(on: CraftSet, folder: Path, seed: int, steps: int, overrides: Sequence[str]) -> Path:
    """Train with a seed, unless that has been done; the run's folder."""
    if not is_whole(folder, steps):
        settings = [f"run.root={folder.parent}", f"run.name={folder.name}", f"run.seed={seed}",
                    "run.save_every_steps=0", "monitor.pictures_every=0", "monitor.tensorboard=false", *overrides]
        subprocess.run([sys.executable, "launch/train.py", str(on.config), *settings], cwd=ROOT,
                       stdout=subprocess.DEVNULL)
    return folder


def is_whole(folder: Path, steps: int) -> bool:
    """Whether a run has made its steps; without a number of steps, whether nothing but its time or the schedule has
    ended it."""
    status = read_object(folder / "status.json")
    if steps:
        return status.get("status") == "finished" and status["step"] >= steps
    return status.get("status") == "finished" or status.get("why") == Ask.TIME_LIMIT.words


def judged(folder: Path, steps: int, test: Path, judges: Judges, raw_weights: bool = False) -> Outcome:
    """What has come of a run."""
    seconds = [report["seconds_per_step"] for report in read_journal(folder).reports]
    evaluation = None
    if is_whole(folder, steps):
        loaded = load_generator(folder, raw_weights=raw_weights)
        (evaluation,) = evaluate([loaded], GenerationOptions(input=test), judges, folder / "judged")
    steps_made = read_object(folder / "status.json").get("step", 0)
    return Outcome(steps_made, 1 / statistics.median(seconds) if seconds else 0.0, evaluation)


def row(name: str, runs: list[Outcome]) -> str:
    """A line of the table."""
    whole = [_figures(one.evaluation) for one in runs if one.evaluation is not None]
    cells = [_with_spread(values) for values in zip(*whole, strict=True)]
    short = f"{len(runs) - len(whole)} of {len(runs)} broke off" if len(whole) < len(runs) else ""
    steps, rate = (statistics.mean(values) for values in ([one.steps for one in runs], [one.rate for one in runs]))
    return f"{name:14}{steps:8.0f}{rate:10.2f}  {''.join(f'{cell:22}' for cell in cells)}{short}".rstrip()


def stability(on: CraftSet, out: Path, overrides: list[str], n_seeds: int, steps: int) -> None:
    """How many runs of a tiny network at a high learning rate end, and with more than a mean frame."""
    cfg = load_config(on.config, [*TINY, *overrides])
    fast = [*TINY, f"optim.lr={LR_STABLE * cfg.optim.lr}", f"run.max_steps={steps}"]
    mean_frame = error_of_the_mean_frame(cfg)
    print(f"{steps} steps at a learning rate of {LR_STABLE * cfg.optim.lr:g}, {n_seeds} seeds; L1 of the mean training "
          f"frame {mean_frame:.3f}\n{'recipe':14}{'finite':>8}{'better than the mean frame':>28}  L1 of each")
    for name in ("original", "modern"):
        runs = []
        for seed in range(n_seeds):
            folder = out / f"stability_{name}_{seed}"
            if read_object(folder / "status.json").get("status") != "failed":  # ended for good
                train(on, folder, seed, steps, [*options_of(name), *overrides, *fast])
            runs.append(judged(folder, steps, Path(cfg.data.shards), Judges()))
        found = [one.evaluation.mean("L1") if one.evaluation else float("nan") for one in runs]
        print(f"{name:14}{sum(one.evaluation is not None for one in runs):8}"
              f"{sum(error < mean_frame for error in found):28}  "
              + " ".join(f"{error:.3f}" if error == error else f"NaN at step {one.steps + 1}"
                         for error, one in zip(found, runs, strict=True)), flush=True)


def _figures(found: Evaluation) -> list[float]:
    """In the order of the columns."""
    quality = found.sets[KID].value if KID in found.sets else found.mean("SSIM")
    return [found.mean("L1"), found.mean("warp error"), found.drift("L1"), quality, found.rate]


def _with_spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4g}" + (f" ({statistics.stdev(values):.2g})" if len(values) > 1 else "")


if __name__ == "__main__":
    run_main(main)
