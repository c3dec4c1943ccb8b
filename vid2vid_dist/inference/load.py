"""The generator of a finished or running training run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.manifest import NAME as MANIFEST
from vid2vid_dist.models.manifest import entries_beside, require_as_written
from vid2vid_dist.models.single_image import GlobalWithFeatures, ImageGenerator, ImageNetwork, network_of
from vid2vid_dist.models.weights import read_tensors, read_weights, weight_differences
from vid2vid_dist.untrusted import read_pointer, shown

TRAINED, AVERAGED = "generator.safetensors", "generator_ema.safetensors"


@dataclass(frozen=True)
class LoadedGenerator:
    """A trained generator, on the CPU, and where it comes from."""

    generator: Generator
    config: Config
    checkpoint: Path
    averaged: bool  # whether these are the averaged weights (optim.ema_decay)

    @property
    def weights(self) -> Path:
        """The file of weights."""
        return self.checkpoint / (AVERAGED if self.averaged else TRAINED)

    @property
    def run_dir(self) -> Path:
        """The run that the checkpoint belongs to; one that was copied elsewhere stands for itself."""
        folder = self.checkpoint
        return folder.parent.parent if folder.parent.name == "checkpoints" else folder


def load_generator(path: Path, overrides: Sequence[str] = (), *, raw_weights: bool = False) -> LoadedGenerator:
    """Load the newest checkpoint of a run folder, or the given checkpoint folder.

    The averaged weights are taken where there are some, unless `raw_weights` asks for the trained ones.
    `overrides` (`section.key=value`) come on top of the checkpoint's configuration.

    Raises:
        UserError: no such run, no checkpoint yet, a damaged file, or weights of another architecture.
    """
    folder = find_checkpoint(path)
    while True:
        try:
            return _load(folder, overrides, raw_weights)
        except UserError:
            newer = find_checkpoint(path)
            if newer == folder:
                raise
            folder = newer  # training has gone on, and cleared away the one before


def _load(folder: Path, overrides: Sequence[str], raw_weights: bool) -> LoadedGenerator:
    fix = f"choose another one of {folder.parent}, or remove {MANIFEST} to take it as it is"
    entries = entries_beside(folder, fix)
    averaged = not raw_weights and (AVERAGED in entries or (folder / AVERAGED).is_file())
    file = folder / (AVERAGED if averaged else TRAINED)
    require_as_written(folder, entries, ["config.yaml", file.name], fix)
    config = load_config(folder / "config.yaml", overrides)
    with torch.device("meta"):  # no time is spent on initial values
        generator = Generator(config)
    weights = read_weights(file, generator.state_dict(), "choose another checkpoint, or overrides that fit its "
                           "config.yaml")
    generator.load_state_dict(weights, assign=True)
    return LoadedGenerator(generator, config, folder, averaged)


@dataclass(frozen=True)
class SingleImage:
    """A single-image generator, on the CPU; `weights` is the file that it comes from.

    `loaded`: the checkpoint that it is part of, None for a bare file of weights.
    """

    network: ImageGenerator | GlobalWithFeatures
    weights: Path
    loaded: LoadedGenerator | None = None


def load_single_image(path: Path) -> SingleImage:
    """The single-image generator of a run, checkpoint or export, or of a file of weights: safetensors, or a .pth of
    the original.

    Raises `UserError` for what cannot be read, and for weights of another network.
    """
    if path.is_dir():
        loaded = load_generator(path)
        scale = loaded.generator.network(0)
        if not isinstance(scale, ImageNetwork):
            raise UserError(f"{path} was trained with generator.netG={loaded.config.generator.netG}, which makes "
                            "videos: name a run of configs/single_image")
        return SingleImage(scale.net, loaded.weights, loaded)
    fix = "name a file of a global or local single-image generator"
    try:
        weights = read_tensors(path)
        network = network_of(weights)
    except ValueError as error:
        raise UserError(f"{path}: {shown(error)}: {fix}") from None
    wrong = weight_differences(network.state_dict(), weights)
    if wrong:
        raise UserError(f"{path}: {'; '.join(wrong[:4])}: {fix}")
    network.load_state_dict(weights, assign=True)
    return SingleImage(network, path)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint folder that `path` is, or the newest one of the run folder that it is."""
    if not path.is_dir():
        raise UserError(f"no run at {path}: name a run folder (runs/NAME) or one of its checkpoints")
    folder = path
    if not (path / TRAINED).is_file():
        pointer = path / "checkpoints" / "latest"
        if not pointer.is_file():
            raise UserError(f"{path} has no checkpoint yet: {pointer} does not exist: train first, which writes it")
        folder = pointer.parent / read_pointer(pointer)
    for name in ("config.yaml", TRAINED):
        if not (folder / name).is_file():
            raise UserError(f"checkpoint {folder} is incomplete: {name} is missing; name another one")
    return folder
