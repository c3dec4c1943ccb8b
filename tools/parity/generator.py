"""One step of one generator network: outputs, gradients, statistics; also the single-image generators."""

from typing import Any

import torch
from torch import Tensor, nn

from tools.parity.case import Case, Check
from tools.parity.compare import compare, load_exactly, relative_error, starting_with
from tools.parity.options import config_of_case
from vid2vid_dist.config.schema import Config
from vid2vid_dist.models.composite import CompositeGenerator, Features, ScaleGenerator, ScaleOutput
from vid2vid_dist.models.labels import EncodedLabels, encode_labels, foreground_mask, instance_edges, label_pyramid
from vid2vid_dist.models.single_image import GlobalWithFeatures, ImageGenerator

OUTPUTS = ("train.", "eval.", "train_rawonly.")
INPUT_TOLERANCE = 1e-6  # of inputs that are averages, stored in float32


def check(case: Case) -> list[Check]:
    return _check_single_image(case) if "which" in case.options else _check_scale(case)


def _check_scale(case: Case) -> list[Check]:
    tensors, options = case.tensors(), case.options
    cfg, scale = config_of_case(options), options["scale"]
    checks, labels = _labels(tensors, cfg, scale)
    leaves = {name: tensors[f"in.{name}"].double().requires_grad_()
              for name in ("img_prev", "img_feat_coarse", "flow_feat_coarse", "fg_feat_coarse")
              if f"in.{name}" in tensors}
    leaves["input"] = labels.flatten(1, 2).requires_grad_()
    mask = tensors["in.mask"].double() if "in.mask" in tensors else None
    if mask is not None:
        fg = foreground_mask(EncodedLabels(labels), cfg.generator.fg_labels)
        checks.append(Check("in.mask", relative_error(fg, mask, 1.0), INPUT_TOLERANCE))

    ours: dict[str, Tensor] = {}
    for mode in OUTPUTS:
        network = load_exactly(CompositeGenerator(cfg.generator, cfg.label_channels, scale), tensors)
        network.train(mode != "eval.")
        out = _forward(network, leaves, mask, raw_only=mode == "train_rawonly.")
        returned = _named(out)
        loss = torch.stack([value.square().sum() for value in returned.values()]).sum()
        ours |= {f"{mode}out.{name}": value for name, value in returned.items()} | {f"{mode}loss": loss}
        if mode == "train.":
            ours |= _gradients(loss, leaves, network)
            ours |= {f"train.buf_after.{name}": buffer for name, buffer in network.named_buffers()}
    return checks + compare(starting_with(tensors, *OUTPUTS), ours, case.meta)


def _labels(tensors: dict[str, Tensor], cfg: Config, scale: int) -> tuple[list[Check], Tensor]:
    """Checks of our encoding, and the encoded labels (B, n_frames_G, Ca, h, w) of this scale."""
    checks = []
    labels, instances = tensors["in.labels_u8"].unsqueeze(2), tensors.get("in.inst_u8")
    if instances is not None:
        instances = instances.unsqueeze(2)
        if "in.edges_u8" in tensors:
            edges = instance_edges(instances)
            checks.append(Check("in.edges", relative_error(edges, tensors["in.edges_u8"], 1.0), 0.0))
    encoded = label_pyramid(encode_labels(labels, instances, cfg.data.label_nc, torch.float64),
                            cfg.generator.n_scales_spatial)[scale].dense()
    if "in.input_pyr" in tensors:
        stored = tensors["in.input_pyr"].double()
        checks.append(Check("in.input_pyr", relative_error(encoded, stored, 1.0), INPUT_TOLERANCE))
        encoded = stored
    return checks, encoded


def _forward(network: ScaleGenerator, leaves: dict[str, Tensor], mask: Tensor | None,
             raw_only: bool) -> ScaleOutput:
    coarse = None
    if "img_feat_coarse" in leaves:
        coarse = Features(
            leaves["img_feat_coarse"], leaves.get("flow_feat_coarse"), leaves.get("fg_feat_coarse"))
    return network(EncodedLabels(leaves["input"][:, None]), leaves["img_prev"], mask, coarse, raw_only)


def _named(out: ScaleOutput) -> dict[str, Tensor]:
    named = {"fake": out.image, "flow": out.flow, "weight": out.weight, "raw": out.raw,
             "img_feat": out.features.img, "flow_feat": out.features.flow, "fg_feat": out.features.fg}
    return {name: value for name, value in named.items() if value is not None}


def _gradients(loss: Tensor, leaves: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    parameters = dict(network.named_parameters())
    wanted = {f"in.{name}": leaf for name, leaf in leaves.items()}
    wanted |= {f"param.{name}": parameter for name, parameter in parameters.items()}
    gradients = torch.autograd.grad(loss, list(wanted.values()))
    named = {f"train.grad.{name}": grad for name, grad in zip(wanted, gradients, strict=True)}
    labels = named["train.grad.in.input"]
    named["train.grad.in.input.stride4"] = labels[:, :, ::4, ::4]
    named["train.grad.in.input.chanabssum"] = labels.abs().sum(dim=(2, 3))
    return named


def _check_single_image(case: Case) -> list[Check]:
    tensors, options = case.tensors(), case.options
    labels = tensors["in.labels_u8"].unsqueeze(2)
    inputs = [encode_labels(labels, None, options["label_nc"], torch.float64).dense()[:, 0]]
    if "in.z" in tensors:
        inputs.append(tensors["in.z"].double())
    network = load_exactly(single_image_network(options, options["label_nc"]), tensors)
    ours = {}
    for mode in ("eval", "train"):
        network.train(mode == "train")
        ours[f"{mode}.out"] = network(torch.cat(inputs, dim=1))
    return compare(starting_with(tensors, "train.", "eval."), ours, case.meta)


def single_image_network(options: dict[str, Any], in_channels: int) -> nn.Module:
    """The single-image generator that the original's `which` names."""
    common = (options["ngf"], options["n_downsample"], options["n_blocks"])
    if options["which"] == "global":
        return ImageGenerator(in_channels, *common)
    if options["which"] == "local":
        return ImageGenerator(in_channels, *common, options.get("n_local_enhancers", 1), options["n_blocks_local"])
    if options["which"] == "global_with_features":
        return GlobalWithFeatures(in_channels, options["feat_num"], *common)
    raise ValueError(f"no such single-image generator: {options['which']}")
