"""Take over the weights of the original vid2vid.

    python -m vid2vid_dist import-vid2vid checkpoints/NAME runs/NAME                    a folder with opt.txt and *.pth
    python -m vid2vid_dist import-vid2vid FOLDER OUT data.label_nc=35 generator.fg=true without opt.txt, or against it

OUT can be given to `vid2vid-generate` and, as run.load_pretrain, to training. Every tensor arrives bit by bit.
Weights are read without running code from them. Nothing is written unless all generators are there, with the
shapes that the options promise, and make a picture.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from vid2vid_dist.config.load import load_config, save_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.atomic import locked, written_aside
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.models.weights import read_tensors, save_tensors, weight_differences
from vid2vid_dist.original.layout import Part, parts
from vid2vid_dist.original.options import read_options
from vid2vid_dist.training.copies import copied

SHOWN = 20  # differences that are listed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="checkpoints/NAME of the original")
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings on top of opt.txt's")
    parser.add_argument("--epoch", default="latest", help="which files: EPOCH_net_G0.pth (default: latest)")
    args = parser.parse_args()
    for line in import_folder(args.folder, args.out, args.overrides, args.epoch):
        print(line)


def import_folder(folder: Path, out: Path, overrides: Sequence[str] = (), epoch: str = "latest") -> list[str]:
    """Make the checkpoint folder `out` from a folder of the original; gives lines to print.

    Raises `UserError` with a list of what is missing or of another shape, and where `out` cannot be written.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name checkpoints/NAME of the original")
    if out.exists() and not (out / "imported.txt").is_file():
        raise UserError(f"{out} exists and is not an imported folder: choose another name")
    try:
        with locked(out), written_aside(out) as aside:
            cfg = _configure(folder, aside / "config.yaml", [f"run.name={out.name}", *overrides])
            roles, notes = _read(folder, epoch, parts(cfg))
            for role, tensors in roles.items():
                save_tensors(copied(tensors), aside / f"{role}.safetensors")
            lines = [f"{out}: {sum(map(len, roles.values()))} tensors ({', '.join(roles)}) from {folder}", *notes,
                     _try_out(aside, folder)]
            (aside / "imported.txt").write_text("\n".join(lines) + "\n")
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot make {out} ({error}): free some space, check its permissions, or choose another OUT"
                        ) from None
    return lines


def _configure(folder: Path, file: Path, overrides: Sequence[str]) -> Config:
    """Write the configuration of opt.txt, or the original's defaults, with the overrides; gives it checked."""
    options_file = folder / "opt.txt"
    if not options_file.is_file() and not any(text.startswith("data.label_nc=") for text in overrides):
        keys = "data.label_nc, data.use_instance, generator.fg, generator.n_scales_spatial, generator.ngf"
        raise UserError(f"{folder} has no opt.txt: give the options that its test command names, as {keys}")
    save_config(read_options(options_file) if options_file.is_file() else Config(), file)
    cfg = load_config(file, overrides)
    save_config(cfg, file)
    return cfg


def _read(folder: Path, epoch: str, wanted: list[Part]) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The tensors of each role under our names, and notes on what is not as usual."""
    roles: dict[str, dict[str, Tensor]] = {}
    wrong, notes = [], []
    for part in wanted:
        file = folder / f"{epoch}_net_{part.name}.pth"
        if not file.is_file():
            if part.role == "generator":  # published folders hold no others, which are for training on
                wrong.append(f"{file.name} is missing")
            continue
        try:
            found = read_tensors(file)
        except ValueError as error:
            wrong.append(f"{file.name}: {error}")
            continue
        counters = [name for name in part.tensors if name.endswith("num_batches_tracked") and name not in found]
        if counters:  # PyTorch 0.4.0 did not count batches; nothing reads the number
            found |= {name: torch.tensor(0) for name in counters}
            notes.append(f"{file.name}: {len(counters)} batch counters are not in the file: set to 0")
        wrong += [f"{file.name}: {text}" for text in weight_differences(part.tensors, found)]
        ordered = {f"{part.prefix}{name}": found[name] for name in part.tensors if name in found}
        roles[part.role] = {**roles.get(part.role, {}), **ordered}
    if wrong:
        rest = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        options_used = "opt.txt" if (folder / "opt.txt").is_file() else "the given options"
        raise UserError(f"{folder} does not hold what {options_used} promises: "
                        + "; ".join([*wrong[:SHOWN], *rest]) + ": correct the options, or fetch the files again")
    names = {f"{epoch}_net_{part.name}.pth" for part in wanted}
    notes += [f"{path.name} is not part of this configuration: left out"
              for path in sorted(folder.glob(f"{epoch}_net_*.pth")) if path.name not in names]
    return roles, notes


def _try_out(made: Path, folder: Path) -> str:
    """Make one frame of noise with what was made of `folder`: a picture of another network is grey, white or NaN."""
    loaded = load_generator(made)
    cfg = loaded.config
    n_parameters = sum(parameter.numel() for parameter in loaded.generator.parameters())  # later they are others
    side = max(32, 4 * loaded.generator.size_unit)
    torch.manual_seed(0)
    n_channels, n_values = (1, cfg.data.label_nc) if cfg.data.label_nc else (cfg.data.input_nc, 256)
    labels = torch.randint(n_values, (cfg.generator.n_frames_G, n_channels, side, side), dtype=torch.uint8)
    instances = labels.int() if cfg.data.use_instance else None
    frames = Frames(labels, None, instances, [""] * len(labels))
    video = VideoGenerator(loaded.generator, cfg, torch.device("cpu"), torch.float32)
    last = len(labels) - 1
    video.start([frames.part(slice(0, last))], None)
    fake = video.step([frames.part(slice(last, None))]).fake
    if not fake.isfinite().all() or float(fake.abs().max()) > 1 or float(fake.std()) == 0:
        raise UserError(f"{folder}: the network makes no picture (range {float(fake.min()):.3g} to "
                        f"{float(fake.max()):.3g}): give the options that it was trained with")
    return f"generator of {n_parameters:,} parameters makes a frame: mean {float(fake.mean()):.3f}, " \
           f"spread {float(fake.std()):.3f}"
