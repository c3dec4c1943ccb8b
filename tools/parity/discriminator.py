"""Multi-scale patch discriminators: outputs, loss, input gradient, with batch and with running statistics."""

import torch
from torch import Tensor

from tools.parity.case import Case, Check
from tools.parity.compare import compare, load_exactly, starting_with, thin
from vid2vid_dist.models.discriminator import MultiscaleDiscriminator


def check(case: Case) -> list[Check]:
    tensors, options = case.tensors(), case.options
    network = load_exactly(
        MultiscaleDiscriminator(options["input_nc"], options["ndf"], options["n_layers_D"], options["num_D"],
                                options["norm"], features=options["getIntermFeat"]), tensors)
    x = tensors["in.x"].double().requires_grad_()
    ours: dict[str, Tensor] = {}
    gradients = {}
    # Running statistics first: a pass in train mode changes them.
    for mode in ("eval", "train"):
        network.train(mode == "train")
        outputs = network(x)
        for i, layers in enumerate(outputs):
            ours |= {f"{mode}.out.{i}.{j}": layer for j, layer in enumerate(layers)}
        loss = torch.stack([layer.square().sum() for layers in outputs for layer in layers]).sum()
        ours[f"{mode}.loss"] = loss
        gradients[mode], = torch.autograd.grad(loss, x)
    ours["train.grad.in"] = _accumulated(gradients, tensors)
    return compare(starting_with(tensors, "train.", "eval."), ours, case.meta)


def _accumulated(gradients: dict[str, Tensor], tensors: dict[str, Tensor]) -> Tensor:
    """The input gradient as stored: it was never cleared between the passes that recorded the case.

    It is therefore the gradient of the train pass n times and of the eval pass m times, with whole numbers
    (3 and 3 so far) that are found by least squares.
    """
    (name, stored), = starting_with(tensors, "train.grad.in").items()
    part = name.partition("@")[2]
    columns = torch.stack([thin(gradients[mode], part).flatten() for mode in ("train", "eval")], dim=1)
    passes = torch.linalg.lstsq(columns, stored.double().view(-1, 1)).solution.round().flatten()
    assert passes[0] > 0, passes
    return passes[0] * gradients["train"] + passes[1] * gradients["eval"]
