"""Every loss term and total of one chunk, and their gradients to frames, flow and discriminators."""

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from tools.parity.case import Case, Check
from tools.parity.compare import compare, load_exactly, starting_with
from tools.parity.options import config_of_case
from vid2vid_dist import losses
from vid2vid_dist.config.schema import Config
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.discriminator import face_discriminator, image_discriminator, temporal_discriminator
from vid2vid_dist.models.perceptual import VGG19Features

GENERATED = ("fake_B", "fake_B_raw", "flow", "weight")
Tensors = dict[str, Tensor]


def check(case: Case) -> list[Check]:
    cfg, tensors = config_of_case(case.options), case.tensors()
    inputs = {name.removeprefix("in."): value.double()
              for name, value in starting_with(tensors, "in.").items()}
    leaves = {name: value.requires_grad_() for name, value in inputs.items()
              if name in GENERATED or name.endswith(".fake_B")}
    networks = {"netD": load_exactly(image_discriminator(cfg), tensors, "sd.netD.")}
    ours = _frame_terms(cfg, inputs) | _image_terms(cfg, inputs, networks["netD"])
    if cfg.discriminator.add_face_disc:
        networks["netD_f"] = load_exactly(face_discriminator(cfg), tensors, "sd.netD_f.")
        ours |= _face_terms(cfg, inputs, networks["netD_f"], bool(case.options["openpose_only"]))
    for scale in range(cfg.discriminator.n_scales_temporal):
        network = load_exactly(temporal_discriminator(cfg), tensors, f"sd.netD_T{scale}.")
        networks[f"netD_T{scale}"] = network
        ours |= _temporal_terms(cfg, inputs, network, scale)
    totals = _totals(ours)
    stored = starting_with(tensors, "loss", "total.", "grad_")
    return compare(stored, ours | totals | _gradients(totals, leaves, networks), case.meta)


def _frame_terms(cfg: Config, x: Tensors) -> Tensors:
    """The terms without a discriminator."""
    loss, confidence = cfg.loss, x["conf_ref"]
    zero = confidence.new_zeros(())
    terms = dict.fromkeys(("loss.G_VGG", "loss.F_Flow", "loss.F_Warp", "loss.W"), zero)
    terms["loss.G_Warp"] = losses.temporal_warp_loss(
        x["fake_B"], x["fake_B_prev"], x["flow_ref"], confidence, loss.lambda_T)
    if "flow" in x:
        terms["loss.F_Flow"] = losses.flow_loss(
            x["flow"], x["flow_ref"], confidence, loss.lambda_F, cfg.generator.n_scales_spatial)
        terms["loss.F_Warp"] = losses.flow_warp_loss(
            x["flow"], x["real_B_prev"], x["real_B"], confidence, loss.lambda_T)
        if cfg.generator.no_first_img:
            terms["loss.W"] = losses.weight_loss(x["weight"], confidence)
    if not loss.no_vgg:
        vgg = _stand_in_vgg()
        real = vgg(x["real_B"])
        distances = [losses.perceptual_distance(vgg(x[name]), real) for name in ("fake_B", "fake_B_raw")]
        terms["loss.G_VGG"] = loss.lambda_feat * sum(distances, zero)
    return terms


def _image_terms(cfg: Config, x: Tensors, network: nn.Module) -> Tensors:
    real, fake, raw = (torch.cat([x["real_A"], x[name]], dim=1)
                       for name in ("real_B", "fake_B", "fake_B_raw"))
    final, synthesised = _adversarial(cfg, network, real, fake), _adversarial(cfg, network, real, raw)
    return {f"loss.{name}": final[name] + synthesised[name] for name in final}


def _face_terms(cfg: Config, x: Tensors, network: nn.Module, openpose_only: bool) -> Tensors:
    box = losses.box_around([losses.face_extent(x["real_A"], openpose_only)], x["real_A"].shape[-2:], cfg.data.fineSize)
    names = {"G_GAN": "G_f_GAN", "G_GAN_Feat": "G_f_GAN_Feat", "D_real": "D_f_real", "D_fake": "D_f_fake"}
    if box is None:
        return {f"loss.{name}": x["real_A"].new_zeros(()) for name in names.values()}
    real, fake = (box.crop(torch.cat([x["real_A"], x[name]], dim=1)) for name in ("real_B", "fake_B"))
    terms = _adversarial(cfg, network, real, fake)
    return {f"loss.{ours}": terms[name] * (losses.FACE_WEIGHT if name.startswith("G") else 1.0)
            for name, ours in names.items()}


def _temporal_terms(cfg: Config, x: Tensors, network: nn.Module, scale: int) -> Tensors:
    flow = x[f"T{scale}.flow_ref"]
    real, fake = (losses.temporal_input(x[f"T{scale}.{name}"], flow) for name in ("real_B", "fake_B"))
    terms = _adversarial(cfg, network, real, fake)
    named = {f"loss_T{scale}.{name[0]}_T{name[1:]}": value for name, value in terms.items()}
    return named | {f"loss_T{scale}.G_T_Warp": flow.new_zeros(())}


def _adversarial(cfg: Config, network: nn.Module, real: Tensor, fake: Tensor) -> Tensors:
    disc, loss = cfg.discriminator, cfg.loss
    on_real, on_fake = network(real), network(fake)
    matching = losses.feature_matching(on_fake, on_real, disc.num_D, disc.n_layers_D, loss.lambda_feat)
    return {
        "G_GAN": losses.gan_loss(on_fake, True, loss.gan_mode, for_generator=True),
        "G_GAN_Feat": matching,
        "D_real": losses.gan_loss(on_real, True, loss.gan_mode),
        "D_fake": losses.gan_loss(on_fake, False, loss.gan_mode)}


def _totals(terms: Tensors) -> Tensors:
    """What each optimiser minimises (spec: losses 4)."""
    def total(prefix: str, kinds: tuple[str, ...]) -> Tensor:
        return torch.stack([v for name, v in terms.items()
                            if name.startswith(prefix) and name.split(".")[1].startswith(kinds)]).sum()

    totals = {"total.G": total("loss", ("G_", "F_", "W")), "total.D": 0.5 * total("loss.", ("D_",))}
    scales = {name.split(".")[0].removeprefix("loss_") for name in terms if name.startswith("loss_")}
    return totals | {f"total.D_{scale}": 0.5 * total(f"loss_{scale}.", ("D_",)) for scale in scales}


def _gradients(totals: Tensors, leaves: Tensors, networks: Mapping[str, nn.Module]) -> Tensors:
    """Of the generator's total to the frames, and of each discriminator's total to its weights."""
    def gradients(total: Tensor, to: Tensors) -> Tensors:
        values = torch.autograd.grad(total, list(to.values()), retain_graph=True, materialize_grads=True)
        return dict(zip(to, values, strict=True))

    named = gradients(totals["total.G"], {f"grad_G.{name}": leaf for name, leaf in leaves.items()})
    for name, network in networks.items():
        total = totals["total.D" if name in ("netD", "netD_f") else f"total.{name.removeprefix('net')}"]
        named |= gradients(total, {f"grad_D.{name}.{key}": p for key, p in network.named_parameters()})
    return named




@lru_cache
def _stand_in_vgg() -> VGG19Features:
    """The original was run with these random weights: the full network draws them, the classifier too."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VGG19Features(models.vgg19(weights=None).features).double()
