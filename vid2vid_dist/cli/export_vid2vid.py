"""Write a checkpoint folder that the original vid2vid reads.

    python -m vid2vid_dist export-vid2vid runs/NAME checkpoints/NAME       its newest checkpoint, or a checkpoint folder

Writes latest_net_G0.pth …, the discriminators where the checkpoint has them, and opt.txt. Tensors keep their bits.
"""

import argparse
from collections import OrderedDict
from pathlib import Path

import torch

from vid2vid_dist.data.atomic import locked, written_aside
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.models.weights import load_tensors
from vid2vid_dist.original.layout import parts
from vid2vid_dist.original.options import FIXED, write_options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, checkpoint folder or imported folder")
    parser.add_argument("out", type=Path, help="folder to make: checkpoints/NAME of the original")
    parser.add_argument("--raw-weights", action="store_true", help="the trained weights, not their average")
    args = parser.parse_args()
    for line in export_folder(args.run, args.out, raw_weights=args.raw_weights):
        print(line)


def export_folder(run: Path, out: Path, *, raw_weights: bool = False) -> list[str]:
    """Make the original's folder `out` from a run or checkpoint; gives lines to print."""
    if out.exists() and not (out / "latest_net_G0.pth").is_file():
        raise UserError(f"{out} exists and is no checkpoint folder of the original: choose another name")
    loaded = load_generator(run, raw_weights=raw_weights)
    netG = loaded.config.generator.netG
    if netG != FIXED["netG"]:
        raise UserError(f"{run} was trained with generator.netG={netG}: a checkpoint folder of the original holds "
                        "video generators; vid2vid-export writes other ones")
    gen, disc = loaded.config.generator, loaded.config.discriminator
    foreign = {"generator.style_nc": gen.style_nc, "generator.spectral_norm": gen.spectral_norm,
               "discriminator.spectral_norm": disc.spectral_norm}
    for key in (key for key, value in foreign.items() if value):
        raise UserError(f"{loaded.checkpoint} was trained with {key}, which the original does not know: "
                        "vid2vid-export writes it")
    lines = []
    with locked(out), written_aside(out) as aside:
        write_options(loaded.config, aside / "opt.txt")
        for part in parts(loaded.config):
            file = loaded.checkpoint / f"{part.role}.safetensors"
            if part.role == "generator":
                state = loaded.generator.state_dict()
            elif file.is_file():
                state = load_tensors(file)
            else:
                lines.append(f"{part.role} is not in {loaded.checkpoint}: left out")
                continue
            tensors = OrderedDict((name, state[f"{part.prefix}{name}"].clone()) for name in part.tensors)
            # PyTorch 0.4, which the original needs, reads no zip files.
            torch.save(tensors, aside / f"latest_net_{part.name}.pth", _use_new_zipfile_serialization=False)
        written = sorted(path.name for path in aside.iterdir())
    return [f"{out}: {', '.join(written)}" + (" (averaged weights)" if loaded.averaged else ""), *lines]
