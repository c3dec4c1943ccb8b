"""Frame by frame: equal to the clip in one piece, from frames or from nothing, at constant memory."""

import pytest
import torch

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import ClipSource, Frames, Request
from vid2vid_dist.data.images import to_float
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.models.compute_options import compute_options_from
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import EncodedLabels, encode_labels

CPU = torch.device("cpu")


def frames_of(cfg: Config, first: int, count: int) -> Frames:
    source = ClipSource(cfg.data, cfg.generator.n_frames_G, seed=0, split="test")
    return source.load(Request.span(source.whole(1), first, count))  # the longer of the two videos


def generate(video: VideoGenerator, cfg: Config, n_frames: int,
             first_images: torch.Tensor | None) -> torch.Tensor:
    n_past = cfg.generator.n_frames_G - 1
    video.start([frames_of(cfg, 0, n_past)], None if first_images is None else first_images[None])
    return torch.cat([video.step([frames_of(cfg, n_past + t, 1)]).fake for t in range(n_frames)], dim=1)


def whole_clip(generator: Generator, cfg: Config, n_frames: int) -> tuple[EncodedLabels, list[torch.Tensor]]:
    """Encoded labels and history of a clip in one piece."""
    n_past = cfg.generator.n_frames_G - 1
    frames = frames_of(cfg, 0, n_past + n_frames)
    assert frames.images is not None
    assert frames.instances is not None
    labels = encode_labels(frames.labels[None], frames.instances[None], cfg.data.label_nc)
    return labels, generator.start_history(to_float(frames.images[None, :n_past], torch.float32))


def as_on_cpus(cfg: Config) -> Generator:
    """Which computes as `VideoGenerator` lets it."""
    generator = Generator(cfg)
    generator.set_compute_options(compute_options_from(cfg.optim, on_cpu=True))
    return generator


@pytest.mark.parametrize(
    ("n_scales", "norm", "n_frames_G"), [(1, "batch", 3), (2, "batch", 2), (2, "instance", 3)])
def test_frame_by_frame_equals_the_clip_in_one_piece(cfg: Config, n_scales: int, norm: str,
                                                     n_frames_G: int) -> None:
    cfg.generator.n_scales_spatial, cfg.generator.norm, cfg.generator.n_frames_G = n_scales, norm, n_frames_G
    generator = as_on_cpus(cfg)
    n_frames = 7 - (n_frames_G - 1)
    with torch.no_grad():
        labels, history = whole_clip(generator, cfg, n_frames)
        expected = generator.generate(labels, history).fake
    images = frames_of(cfg, 0, n_frames_G - 1).images
    assert images is not None
    video = VideoGenerator(generator, cfg, CPU, torch.float32)
    assert torch.equal(generate(video, cfg, n_frames, to_float(images, torch.float32)), expected)


def test_from_nothing_only_the_first_frame_is_raw(cfg: Config) -> None:
    generator = as_on_cpus(cfg)
    labels, real_history = whole_clip(generator, cfg, 3)
    history = [torch.zeros_like(scale) for scale in real_history]
    with torch.no_grad():
        first = generator.generate(labels.frames(slice(3)), history, raw_only=True)
        rest = generator.generate(labels.frames(slice(1, None)), first.history)
    assert torch.equal(first.fake, first.raw)
    assert not torch.equal(rest.fake, rest.raw)
    video = VideoGenerator(generator, cfg, CPU, torch.float32)
    fake = generate(video, cfg, 3, None)
    assert torch.equal(fake, torch.cat([first.fake, rest.fake], dim=1))
    assert torch.equal(generate(video, cfg, 3, None), fake)  # a second video starts afresh


def test_statistics_are_those_of_the_frame(cfg: Config) -> None:
    """The running statistics play no part, even if somebody has put the networks into evaluation mode."""
    generator = Generator(cfg)
    expected = generate(VideoGenerator(generator, cfg, CPU, torch.float32), cfg, 2, None)
    for name, buffer in generator.named_buffers():
        if "running" in name:
            buffer.fill_(7.0)
    generator.eval()
    assert torch.equal(generate(VideoGenerator(generator, cfg, CPU, torch.float32), cfg, 2, None), expected)


def test_memory_does_not_grow(cfg: Config) -> None:
    video = VideoGenerator(Generator(cfg), cfg, CPU, torch.float32)
    video.start([frames_of(cfg, 0, 2)], None)

    def held() -> int:
        tensors = [video._labels.planes, *video._history]
        assert not any(t.requires_grad for t in tensors)
        return sum(t.untyped_storage().nbytes() for t in tensors)

    video.step([frames_of(cfg, 2, 1)])
    after_one = held()
    for t in (3, 4, 5, 6):
        video.step([frames_of(cfg, t, 1)])
    assert held() == after_one


def test_rgb_input(cfg: Config) -> None:
    cfg.data.label_nc, cfg.data.use_instance, cfg.generator.fg = 0, False, False
    video = VideoGenerator(Generator(cfg), cfg, CPU, torch.float32)
    rgb = torch.randint(0, 256, (3, 3, 32, 64), dtype=torch.uint8)
    video.start([Frames(rgb[:2], None, None, ["0", "1"])], None)
    assert video.step([Frames(rgb[2:], None, None, ["2"])]).fake.shape == (1, 1, 3, 32, 64)
