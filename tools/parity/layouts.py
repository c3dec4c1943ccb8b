"""Parameter names, shapes, order and counts of the published full-size networks; nothing is allocated."""

from typing import Any

import torch
from torch import nn

from tools.parity.case import Case, Check
from tools.parity.generator import single_image_network
from vid2vid_dist.config.schema import GeneratorConfig
from vid2vid_dist.models.composite import CompositeGenerator
from vid2vid_dist.models.discriminator import MultiscaleDiscriminator


def check(case: Case) -> list[Check]:
    """Two checks per network: entries of the state dict that differ, and the difference in parameters."""
    checks = []
    for name, layout in case.meta.items():
        with torch.device("meta"):
            network = _network(layout["config"])
        ours = [(key, list(tensor.shape)) for key, tensor in network.state_dict().items()]
        expected = list(layout["keys"].items())
        differing = abs(len(ours) - len(expected)) + sum(a != b for a, b in zip(ours, expected, strict=False))
        checks.append(Check(f"{name}: keys", differing, 0))
        n_params = sum(parameter.numel() for parameter in network.parameters())
        checks.append(Check(f"{name}: parameters", abs(n_params - layout["n_params"]), 0))
    return checks


def _network(config: dict[str, Any]) -> nn.Module:
    if "num_D" in config:
        return MultiscaleDiscriminator(config["input_nc"], config["ndf"], config["n_layers"], config["num_D"],
                                       config.get("norm", "batch"), features=config["getIntermFeat"])
    if config["which"] not in ("composite", "compositeLocal"):
        return single_image_network(config, config["input_nc"])
    scale = config["scale"]
    gen = GeneratorConfig(ngf=config["ngf"] * 2**scale, n_downsample_G=config["n_downsample"],
                          n_blocks=config["n_blocks"], n_blocks_local=config["n_blocks_local"],
                          norm=config["norm"], fg=config["fg"], no_flow=config.get("no_flow", False))
    label_channels = config["input_nc"] // gen.n_frames_G
    return CompositeGenerator(gen, label_channels, scale)
