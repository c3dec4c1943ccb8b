"""Ways to save memory give the same outputs, gradients and running statistics."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.models.unrolled import unrolled
from vid2vid_dist.config.schema import Config, DataConfig, GeneratorConfig
from vid2vid_dist.models.compute_options import ComputeOptions
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import encode_labels

COMBINATIONS = [ComputeOptions(gather, checkpoint, last) for gather, checkpoint, last in (
    (False, False, False), (True, True, False), (False, True, True), (True, False, True))]


def outcome(options: ComputeOptions, norm: str, prepare: Callable[[Generator], None] = lambda _: None
            ) -> dict[str, Tensor]:
    """Frames of a chunk of two scales, gradients, and what the norm layers have noted."""
    cfg = Config(data=DataConfig(label_nc=4), generator=GeneratorConfig(
        ngf=4, n_blocks=2, n_blocks_local=1, n_downsample_G=1, n_scales_spatial=2, fg=True, fg_labels=[2], norm=norm))
    torch.manual_seed(0)
    generator = Generator(cfg).double()
    generator.set_compute_options(options)
    prepare(generator)
    ids = torch.randint(0, 4, (1, 4, 1, 16, 24))
    labels = encode_labels(ids, None, 4, torch.float64)
    history = generator.start_history(torch.rand(1, 2, 3, 16, 24, dtype=torch.float64))
    frames = unrolled(generator, labels, history)
    fake, raw = (torch.stack(images) for images in ([x.images[-1] for x in frames], [x.raw for x in frames]))
    flow = torch.stack([x.flow for x in frames if x.flow is not None])
    (fake.square().sum() + raw.sum() + flow.square().mean()).backward()
    found = {name: p.grad for name, p in generator.named_parameters() if p.grad is not None}
    assert len(found) == len(list(generator.parameters()))
    return found | dict(generator.named_buffers()) | {"fake": fake.detach(), "flow": flow.detach()}


@pytest.mark.parametrize("norm", ["batch", "instance", "spade"])
def test_results_are_equal(norm: str) -> None:
    expected = outcome(ComputeOptions(), norm)
    assert expected["netG0.model_down_img.2.running_mean"].any()
    for options in COMBINATIONS:
        torch.testing.assert_close(outcome(options, norm), expected, rtol=1e-9, atol=1e-10)


def test_checkpointing_keeps_less() -> None:
    """Storages that autograd saves in a forward pass."""
    def saved(options: ComputeOptions) -> int:
        storages: dict[int, torch.UntypedStorage] = {}

        def pack(x: Tensor) -> Tensor:
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage()
            return x

        cfg = Config(data=DataConfig(label_nc=4), generator=GeneratorConfig(ngf=8, n_blocks=4, n_downsample_G=1))
        generator = Generator(cfg)
        generator.set_compute_options(options)
        known = {p.untyped_storage().data_ptr() for p in generator.parameters()}
        labels = encode_labels(torch.zeros(1, 3, 1, 32, 32, dtype=torch.long), None, 4)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            generator.generate(labels, generator.start_history(torch.zeros(1, 2, 3, 32, 32)))
        return sum(storage.nbytes() for key, storage in storages.items() if key not in known)

    assert saved(ComputeOptions(checkpoint=True)) < 0.35 * saved(ComputeOptions())
