"""What a video starts from: real frames, nothing, a picture, or the single-image generator."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import ClipSource, Frames, Request
from vid2vid_dist.data.images import to_float
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.first_frames import FirstFrames, choose_first_frames
from vid2vid_dist.inference.load import load_generator, load_single_image
from vid2vid_dist.inference.styles import FILE, StyleBook, fingerprint
from vid2vid_dist.models.labels import encode_labels
from vid2vid_dist.models.single_image import ImageGenerator

CPU = torch.device("cpu")


@pytest.fixture
def given(cfg: Config) -> Frames:
    source = ClipSource(cfg.data, cfg.generator.n_frames_G, seed=0, split="test")
    return source.load(Request.span(source.whole(1), 0, 2))


def first_frames(first: str, cfg: Config, has_images: bool = True) -> FirstFrames:
    return choose_first_frames(first, cfg, has_images, "the input", CPU)


def images(first: str, cfg: Config, given: Frames, look: torch.Tensor | None = None) -> torch.Tensor:
    found = first_frames(first, cfg).images
    assert found is not None
    return found(given, look)


def test_as_in_training(cfg: Config, given: Frames) -> None:
    assert given.images is not None
    assert torch.equal(images("auto", cfg, given), to_float(given.images, torch.float32))
    cfg.generator.no_first_img = True
    assert first_frames("auto", cfg).images is None
    assert first_frames("real", cfg).images is not None


def test_a_picture(cfg: Config, given: Frames, tmp_path: Path) -> None:
    Image.fromarray(np.full((10, 20, 3), 255, np.uint8)).save(tmp_path / "white.png")
    assert torch.equal(images(f"image:{tmp_path / 'white.png'}", cfg, given), torch.ones(2, 3, 32, 64))


@pytest.mark.parametrize("with_edges", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_single_image_generators(cfg: Config, given: Frames, tmp_path: Path, with_edges: bool, suffix: str) -> None:
    """The network is known by its weights, whether it was trained with instance edges or without."""
    in_channels = cfg.label_channels if with_edges else cfg.data.label_nc
    networks = ImageGenerator(in_channels, 4, 2, 3), ImageGenerator(in_channels, 4, 2, 2, 2, 1)
    for number, network in enumerate(networks):
        file = tmp_path / f"network{number}{suffix}"
        if suffix == ".pth":
            torch.save(network.state_dict(), file)
        else:
            save_file(network.state_dict(), file)
        assert given.instances is not None
        labels = encode_labels(given.labels[None], given.instances[None], cfg.data.label_nc).dense()[0, :, :in_channels]
        with torch.no_grad():
            expected = torch.cat([network(frame[None]) for frame in labels])
        assert torch.allclose(images(f"single:{file}", cfg, given), expected, atol=1e-6)


def test_first_frames_that_cannot_be_had(cfg: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the input has no real frames to start from"):
        first_frames("real", cfg, has_images=False)
    for first in ("sketch", "single:", "image", f"real:{__file__}", f"auto:{__file__}"):
        with pytest.raises(UserError, match="write real, none, single:RUN_OR_FILE or image:FILE"):
            first_frames(first, cfg)
    for first in ("single", "image"):
        with pytest.raises(UserError, match=r"nowhere\.pth: no such file" + " or run" * (first == "single")):
            first_frames(f"{first}:{tmp_path / 'nowhere.pth'}", cfg)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"model\.1\.weight is missing"):
        first_frames(f"single:{tmp_path / 'other.pth'}", cfg)
    state = ImageGenerator(7, 4, 2, 3).state_dict()
    torch.save({**state, "model.99.weight": torch.zeros(3)}, tmp_path / "more.pth")
    with pytest.raises(UserError, match=r"model\.99\.weight is not part of the network"):
        first_frames(f"single:{tmp_path / 'more.pth'}", cfg)
    torch.save(ImageGenerator(36, 4, 2, 3).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(UserError, match="reads 36 input channels, the video generator 7 "):
        first_frames(f"single:{tmp_path / 'wide.pth'}", cfg)


def single_image(cfg: Config) -> Config:
    """A run of a single-image generator on the same labels, without their edges."""
    single = deepcopy(cfg)
    single.run.name, single.data.use_instance = "single", False
    gen = single.generator
    gen.netG, gen.norm, gen.no_flow, gen.no_first_img, gen.fg = "local", "instance", True, True, False
    gen.n_downsample_G, gen.n_local_enhancers = 1, 2
    return single


def test_a_run_of_a_single_image_generator(cfg: Config, given: Frames, make_run: Callable[..., Path]) -> None:
    run = make_run(single_image(cfg), ema=True)
    network = load_single_image(run).network
    labels = encode_labels(given.labels[None], None, cfg.data.label_nc).dense()[0]
    with torch.no_grad():
        expected = torch.cat([network(frame[None]) for frame in labels])
    assert torch.allclose(images(f"single:{run}", cfg, given), expected, atol=1e-6)
    assert "generator_ema" in first_frames(f"single:{run}", cfg).identity


def test_runs_that_make_no_first_frames(cfg: Config, given: Frames, make_run: Callable[..., Path]) -> None:
    single = single_image(cfg)
    with pytest.raises(UserError, match=r"trained with generator\.netG=composite, which makes videos"):
        first_frames(f"single:{make_run(cfg)}", cfg)
    single.generator.n_downsample_G = 4
    with pytest.raises(UserError, match="makes frames whose sides are multiples of 64, not 64x32"):
        images(f"single:{make_run(single)}", cfg, given)
    single.data.label_nc, single.data.input_nc, single.run.name = 0, 3, "rgb"
    with pytest.raises(UserError, match=r"reads 3 input channels of the task street, .* trained on other labels"):
        first_frames(f"single:{make_run(single)}", cfg)


def test_a_run_that_knows_looks(cfg: Config, given: Frames, make_run: Callable[..., Path]) -> None:
    """The wanted look, else the one that is nearest to the real frame, else the first."""
    single = single_image(cfg)
    single.generator.netG, single.generator.style_nc = "global", 2
    run = make_run(single)
    with pytest.raises(UserError, match="no looks to choose from"):
        first_frames(f"single:{run}", cfg)
    encoder = load_generator(run).generator.netE
    assert encoder is not None
    assert given.images is not None
    own = encoder(to_float(given.images[-1:], torch.float32))[0]
    vectors = torch.rand(3, cfg.data.label_nc, 2) * 2 - 1
    for number in given.labels[-1].unique().tolist():
        vectors[2, number] = own[:, given.labels[-1, 0] == number].mean(dim=1)
    StyleBook(vectors, fingerprint(encoder)).save(run / FILE)
    made = [images(f"single:{run}", cfg, given, look) for look in vectors]
    assert made[0].shape == (2, 3, 32, 64)
    assert not torch.allclose(made[0], made[1], atol=1e-3)
    assert torch.equal(images(f"single:{run}", cfg, given), made[2])
    assert torch.equal(images(f"single:{run}", cfg, replace(given, images=None)), made[0])
