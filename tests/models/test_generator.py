"""The chunk loop: windows, histories, styles."""

from dataclasses import replace

import pytest
import torch

from tests.conftest import ROOT
from tests.models.unrolled import unrolled
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config, DataConfig, GeneratorConfig
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.compute_options import ComputeOptions
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import EncodedLabels, pyramid

HEIGHT, WIDTH = 16, 24


def config(**options: object) -> Config:
    small = {"ngf": 4, "n_blocks": 2, "n_blocks_local": 1, "n_downsample_G": 1, "norm": "instance"}
    return Config(data=DataConfig(label_nc=4), generator=GeneratorConfig(**(small | options)))  # type: ignore[arg-type]


def build(cfg: Config) -> Generator:
    torch.manual_seed(1)
    return Generator(cfg).double()


def clip(cfg: Config, n_frames: int, batch: int = 1) -> tuple[EncodedLabels, torch.Tensor]:
    """Encoded labels for n generated frames, and first frames."""
    torch.manual_seed(2)
    n_past = cfg.generator.n_frames_G - 1
    labels = torch.randn(batch, n_past + n_frames, cfg.label_channels, HEIGHT, WIDTH, dtype=torch.float64)
    return EncodedLabels(labels), torch.rand(batch, n_past, 3, HEIGHT, WIDTH, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("n_frames_G", [2, 3, 4])
@pytest.mark.parametrize("n_scales_spatial", [1, 2, 3])
def test_shapes(n_frames_G: int, n_scales_spatial: int) -> None:
    cfg = config(n_frames_G=n_frames_G, n_scales_spatial=n_scales_spatial, fg=True, fg_labels=[1, 2])
    labels, first = clip(cfg, 3, batch=2)
    generator = build(cfg)
    chunk = generator.generate(labels, generator.start_history(first))
    assert chunk.fake.shape == chunk.raw.shape == (2, 3, 3, HEIGHT, WIDTH)
    assert chunk.flow is not None
    assert chunk.flow.shape == (2, 3, 2, HEIGHT, WIDTH)
    assert chunk.weight is not None
    assert chunk.weight.shape == (2, 3, 1, HEIGHT, WIDTH)
    shrinks = [2 ** (n_scales_spatial - 1 - scale) for scale in range(n_scales_spatial)]
    assert [tuple(frames.shape) for frames in chunk.history] == [
        (2, n_frames_G - 1, 3, HEIGHT // shrink, WIDTH // shrink) for shrink in shrinks]
    assert not any(frames.requires_grad for frames in chunk.history)


def test_names_say_the_scale() -> None:
    names = {name.split(".")[0] for name in build(config(n_scales_spatial=3)).state_dict()}
    assert names == {"netG0", "netG1", "netG2"}


def test_without_flow_raw_is_fake() -> None:
    cfg = config(no_flow=True)
    labels, first = clip(cfg, 2)
    generator = build(cfg)
    chunk = generator.generate(labels, generator.start_history(first))
    assert chunk.raw is chunk.fake
    assert chunk.flow is chunk.weight is None


def test_chunks_join_without_a_seam() -> None:
    cfg = config(n_scales_spatial=2)
    labels, first = clip(cfg, 4)
    generator = build(cfg)
    start = generator.start_history(first)
    with torch.no_grad():
        whole = generator.generate(labels, start)
        head = generator.generate(labels.frames(slice(4)), start)
        tail = generator.generate(labels.frames(slice(2, None)), head.history)
    assert torch.equal(whole.fake, torch.cat([head.fake, tail.fake], dim=1))
    assert all(torch.equal(a, b) for a, b in zip(whole.history, tail.history, strict=True))


def test_each_scale_remembers_its_own_frames() -> None:
    cfg = config(n_scales_spatial=2)
    labels, first = clip(cfg, 2)
    generator = build(cfg)
    with torch.no_grad():
        chunk = generator.generate(labels, generator.start_history(first))
    assert torch.equal(chunk.history[1], chunk.fake)
    assert not torch.allclose(chunk.history[0], pyramid(chunk.fake, 2)[0])


def test_frames_before_are_held_constant() -> None:
    cfg = config()
    labels, first = clip(cfg, 4)
    generator = build(cfg)
    images: list[torch.Tensor] = []
    generator.network(0).register_forward_hook(lambda _module, _inputs, out: images.append(out.image))
    chunk = generator.generate(labels, generator.start_history(first))
    for frame in range(4):
        gradients = torch.autograd.grad(chunk.fake[:, frame].sum(), images, retain_graph=True, materialize_grads=True)
        assert [t for t, gradient in enumerate(gradients) if gradient.any()] == [frame]


def test_foreground_mask_is_of_the_newest_label_frame() -> None:
    cfg = config(fg=True, fg_labels=[3])
    labels, first = clip(cfg, 1)
    labels.planes[:, :, 3] = 0
    labels.planes[:, -1, 3] = 1
    generator = build(cfg)
    chunk = generator.generate(labels, generator.start_history(first))
    foreground = generator.network(0).foreground_branch(labels).image
    assert torch.allclose(chunk.fake[:, 0], foreground)


def test_style_reaches_every_scale_and_the_encoder_learns() -> None:
    """Its gradient comes from the foreground branch too."""
    cfg = config(style_nc=2, n_scales_spatial=2, fg=True, fg_labels=[1])
    generator, (labels, first) = build(cfg), clip(cfg, 2)
    history = generator.start_history(first)
    regions = torch.randint(0, 3, (2, 1, HEIGHT, WIDTH))
    images = torch.rand(2, 3, HEIGHT, WIDTH, dtype=torch.float64)
    style = generator.encode_style(images, regions)[None]
    assert style.shape == (1, 2, 2, HEIGHT, WIDTH)
    chunk = generator.generate(labels, history, style=style)
    other = generator.generate(labels, history, style=-style)
    for scale, (a, b) in enumerate(zip(chunk.history, other.history, strict=True)):
        assert not torch.allclose(a, b), scale
    made = unrolled(generator, labels, history, style)
    assert torch.equal(torch.stack([frame.images[-1] for frame in made], dim=1), chunk.fake)
    made[-1].images[-1].sum().backward()
    assert all(p.grad is not None for p in generator.parameters())


def test_what_is_trained_of_the_finest_scale_alone() -> None:
    generator = build(config(style_nc=2, n_scales_spatial=2))
    assert generator.trained_parts(True) == [generator]
    assert generator.trained_parts(False) == [generator.network(1), generator.netE]


def test_style_encoder_computed_again_is_the_same() -> None:
    cfg = config(style_nc=2)
    generator, images = build(cfg), torch.rand(2, 3, HEIGHT, WIDTH, dtype=torch.float64)
    assert generator.netE is not None
    gradients = []
    for again in (False, True):
        generator.set_compute_options(ComputeOptions(checkpoint=again))
        style = generator.encode_style(images, torch.zeros(2, 1, HEIGHT, WIDTH, dtype=torch.int32))
        gradients.append(torch.autograd.grad(style.square().sum(), list(generator.netE.parameters())))
    for kept, again in zip(*gradients, strict=True):
        assert torch.allclose(kept, again)


def test_a_styled_window_is_one_more_group_of_planes() -> None:
    """As if the style had always been part of the dense input."""
    cfg = config(style_nc=2)
    generator, (labels, _) = build(cfg), clip(cfg, 1)
    style = torch.rand(1, 2, HEIGHT, WIDTH, dtype=torch.float64)
    found = generator.network(0).label_branch(replace(labels, style=style))
    joined = torch.cat([labels.planes.flatten(1, 2), style], dim=1)
    assert torch.allclose(found, generator.network(0).model_down_seg(joined))


def test_size_that_cannot_be_halved_is_refused_with_the_fix() -> None:
    cfg = config(n_scales_spatial=2, n_downsample_G=2)
    generator = build(cfg)
    history = generator.start_history(torch.zeros(1, 2, 3, 20, 24))
    with pytest.raises(UserError, match=r"64x8 are too small: .*both sides need 16 pixels"):
        generator.check_size(64, 8)
    with pytest.raises(UserError, match=r"24x20: both sides must be multiples of 8.*data\.loadSize"):
        generator.generate(EncodedLabels(torch.zeros(1, 3, 4, 20, 24)), history)


def test_the_2048_recipe_has_the_published_size() -> None:
    cfg = load_config(ROOT / "configs/street/2048.yaml")
    with torch.device("meta"):
        generator = Generator(cfg)
    assert sum(p.numel() for p in generator.parameters()) == 411_335_241 + 2_880_489 + 859_641
