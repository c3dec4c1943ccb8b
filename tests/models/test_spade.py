"""Normalisation modulated by labels: the formula, what it is read off, where it stands."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from vid2vid_dist.config.schema import Config, DataConfig, GeneratorConfig
from vid2vid_dist.models.blocks import per_frame_norms
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import EncodedLabels, encode_labels
from vid2vid_dist.models.spade import Spade, newest_at

SIZE = 16, 24


def labels_of(n_clips: int) -> tuple[EncodedLabels, Tensor]:
    """A window of three frames with edges and a style; and the newest frame with all that, dense."""
    torch.manual_seed(0)
    ids, instances = torch.randint(0, 5, (2, n_clips, 3, 1, *SIZE))
    encoded = encode_labels(ids, instances, 5, torch.float64)
    style = torch.rand(n_clips, 2, *SIZE, dtype=torch.float64)
    return replace(encoded, style=style), torch.cat([encoded.dense()[:, -1], style], dim=1)


def test_factor_and_offset_are_read_off_the_newest_labels() -> None:
    encoded, dense = labels_of(2)
    layer, x = Spade(6, dense.shape[1]).double(), torch.randn(2, 6, 4, 8, dtype=torch.float64)
    seen = F.interpolate(dense, size=(4, 8), mode="nearest")
    gamma, beta = layer.gamma_beta(F.relu(layer.shared(seen))).chunk(2, dim=1)
    standardised = (x - x.mean(dim=(0, 2, 3), keepdim=True)) / (
        x.var(dim=(0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x, encoded), standardised * (1 + gamma) + beta)


def test_ids_and_planes_say_the_same_at_any_size() -> None:
    encoded, dense = labels_of(1)
    planes = EncodedLabels(encoded.dense(), style=encoded.style)
    for size in (SIZE, (5, 7), (32, 24), (1, 1)):
        expected = F.interpolate(dense, size=size, mode="nearest")
        assert newest_at(encoded, *size).equal(expected)
        assert newest_at(planes, *size).equal(expected)


def small_generator(**options: object) -> Generator:
    torch.manual_seed(0)
    gen = GeneratorConfig(ngf=4, n_blocks=2, n_blocks_local=1, n_downsample_G=1, n_scales_spatial=2, norm="spade",
                          fg=True, fg_labels=[2], **options)  # type: ignore[arg-type]
    return Generator(Config(data=DataConfig(label_nc=5), generator=gen)).double()


def test_it_stands_in_decoders_and_residual_trunks() -> None:
    generator = small_generator()
    found = {name.split(".")[1] for name, module in generator.named_modules() if isinstance(module, Spade)}
    assert found == {"indv_res", "indv_up", "model_res_img", "model_up_img", "model_res_flow", "model_up_flow"}
    for scale in range(2):
        assert not [m for m in generator.network(scale).model_down_seg.modules() if isinstance(m, Spade)]


def test_generation_normalises_every_frame_by_itself() -> None:
    """Two videos side by side are what each is alone."""
    torch.manual_seed(1)
    ids, first = torch.randint(0, 5, (2, 4, 1, *SIZE)), torch.rand(2, 2, 3, *SIZE, dtype=torch.float64)
    generator = per_frame_norms(small_generator())
    together = generator(ids, first).fake
    alone = torch.cat([generator(ids[i:i + 1], first[i:i + 1]).fake for i in range(2)])
    torch.testing.assert_close(together, alone)
    assert (small_generator()(ids, first).fake - together).abs().max() > 1e-6
