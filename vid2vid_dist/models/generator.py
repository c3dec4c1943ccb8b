"""The video generator: all scales, all frames of a chunk (spec: networks 4, training_schedule 4).

Only feature maps climb the scales. Every scale keeps a history of frames that it has made itself, so scale s
of frame t needs no more than scale s - 1 of frame t and its own past.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.compiling import compilable
from vid2vid_dist.models.composite import CompositeGenerator, Features, ScaleGenerator
from vid2vid_dist.models.compute_options import ComputeOptions, laid_out, run_stage
from vid2vid_dist.models.encoder import FeatureEncoder
from vid2vid_dist.models.labels import EncodedLabels, encode_labels, foreground_mask, label_pyramid, pyramid
from vid2vid_dist.models.regions import pool_by_region
from vid2vid_dist.models.single_image import ImageNetwork
from vid2vid_dist.models.spectral import spectrally_normalised

MAX_DOWNSAMPLE_E = 4  # stride-2 convolutions of the style encoder, as in the published one


@dataclass
class GeneratedFrame:
    """One time step: `images` (B, 3, h_s, w_s) per scale, coarsest first; the rest is of the finest scale."""

    images: list[Tensor]
    raw: Tensor
    flow: Tensor | None
    weight: Tensor | None


@dataclass
class GeneratedChunk:
    """T frames at full size: `fake` and `raw` (B, T, 3, H, W) in [-1, 1], `flow` (B, T, 2, H, W) in pixels,
    `weight` (B, T, 1, H, W). Without flow, `raw` is the same tensor as `fake`.

    `history` per scale (B, n_frames_G - 1, 3, h_s, w_s), detached: where the next chunk starts from.
    """

    fake: Tensor
    raw: Tensor
    flow: Tensor | None
    weight: Tensor | None
    history: list[Tensor]


class Generator(nn.Module):
    """The networks of all scales, `netG0` the coarsest, with freshly initialised weights.

    With styles `netE` reads off the real frames how their regions look; it learns with the others.
    """

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        gen = cfg.generator
        self.n_frames_G, self.label_nc = gen.n_frames_G, cfg.data.label_nc
        self.n_scales = gen.n_scales_spatial
        self.fg_labels = tuple(gen.fg_labels) if gen.fg else None
        self.no_flow = gen.no_flow
        self.netG0: ScaleGenerator
        if gen.has_branches:
            self.netG0 = CompositeGenerator(gen, cfg.label_channels, 0)
            self.size_unit = 2 ** (gen.n_scales_spatial - 1 + gen.n_downsample_G)
        else:
            self.netG0 = image_network = ImageNetwork(gen, cfg.label_channels)
            self.size_unit = image_network.net.size_unit
        for scale in range(1, self.n_scales):
            self.add_module(f"netG{scale}", CompositeGenerator(gen, cfg.label_channels, scale))
        if gen.spectral_norm:
            spectrally_normalised(self, heads=False)
        self.netE: FeatureEncoder | None = None
        if gen.style_nc:  # halves as scale 0 does: it asks no more of frames, and goes on from stage to stage
            n_halvings = min(MAX_DOWNSAMPLE_E, gen.n_downsample_G)
            self.netE = FeatureEncoder(gen.style_nc, n_downsample=n_halvings)
        self._compute_options = ComputeOptions()

    def network(self, scale: int) -> ScaleGenerator:
        network = self.get_submodule(f"netG{scale}")
        assert isinstance(network, ScaleGenerator)
        return network

    def set_compute_options(self, options: ComputeOptions) -> None:
        """Choose how all scales compute; results stay what they are."""
        self._compute_options = options
        for scale in range(self.n_scales):
            self.network(scale).compute_options = options

    def start_history(self, first_frames: Tensor) -> list[Tensor]:
        """History per scale from the first n_frames_G - 1 frames of a clip (B, n_frames_G - 1, 3, H, W)."""
        return pyramid(first_frames, self.n_scales)

    def trained_parts(self, all_scales: bool) -> list[nn.Module]:
        """What has weights to learn: everything, or the finest scale and the style encoder."""
        if all_scales:
            return [self]
        return [self.network(self.n_scales - 1), *([] if self.netE is None else [self.netE])]

    def encode_style(self, images: Tensor, regions: Tensor) -> Tensor:
        """How real frames (N, 3, H, W) in [-1, 1] look: (N, style_nc, H, W), constant within each of `regions`
        (N, 1, H, W) of integer ids."""
        return pool_by_region(self.style_features(images), regions)

    def style_of(self, real: Tensor, labels: EncodedLabels) -> Tensor | None:
        """(B, T, style_nc, H, W), how the real frames (B, T, 3, H, W) of these labels look; None without styles."""
        if self.netE is None:
            return None
        assert labels.regions is not None
        return self.encode_style(real.flatten(0, 1), labels.regions.flatten(0, 1)).unflatten(0, real.shape[:2])

    @compilable
    def style_features(self, images: Tensor) -> Tensor:
        """The same, pixel by pixel, before it is pooled."""
        assert self.netE is not None
        images = laid_out(images, self._compute_options)
        return run_stage(self.netE, images, [self.netE], self._compute_options)

    def frame(self, labels: list[EncodedLabels], history: list[Tensor], raw_only: bool = False,
              with_foreground: bool = True) -> GeneratedFrame:
        """One time step through all scales.

        `labels` per scale, n_frames_G frames of (h_s, w_s), the current one last, with its style if there are styles;
        `history` per scale (B, n_frames_G - 1, 3, h_s, w_s).
        `with_foreground` may be False where no pixel of the current frames is foreground: nothing changes.
        """
        images: list[Tensor] = []
        coarse: Features | None = None
        for scale in range(self.n_scales):
            mask = None
            if self.fg_labels is not None and with_foreground:
                mask = foreground_mask(labels[scale], self.fg_labels)
            out = self.network(scale)(labels[scale], history[scale].flatten(1, 2), mask, coarse, raw_only)
            images.append(out.image)
            coarse = out.features
        return GeneratedFrame(images, out.raw, out.flow, out.weight)

    def forward(self, labels: Tensor, first: Tensor | None = None, instances: Tensor | None = None) -> GeneratedChunk:
        """Videos from plain tensors, for networks without styles.

        `labels` (B, n_frames_G - 1 + T, 1, H, W) of integer ids, or pictures (…, C, H, W) in [-1, 1] without classes;
        `first` (B, n_frames_G - 1, 3, H, W) in [-1, 1], the frames of the first maps, None = from nothing; `instances`
        like ids. Raises `UserError` like `generate`.
        """
        dtype = next(self.parameters()).dtype
        batch, n_past, (height, width) = len(labels), self.n_frames_G - 1, labels.shape[-2:]
        past = labels.new_zeros(batch, n_past, 3, height, width, dtype=dtype) if first is None else first
        encoded = encode_labels(labels, instances, self.label_nc, dtype)
        return self.generate(encoded, self.start_history(past), raw_only=first is None)

    def generate(self, labels: EncodedLabels, history: list[Tensor], *, style: Tensor | None = None,
                 raw_only: bool = False, with_foreground: bool = True) -> GeneratedChunk:
        """Make T frames, each from the ones before it, which are held constant.

        `labels` of n_frames_G - 1 + T frames; `history` as `start_history` or the last chunk
        left it; `style` (B, T, style_nc, H, W), how the T frames are to look.
        Raises `UserError` for sizes that the networks cannot halve often enough.
        """
        self.check_size(*labels.size)
        n_past = self.n_frames_G - 1
        scaled_labels = label_pyramid(labels, self.n_scales)
        made = [list(frames.unbind(1)) for frames in history]
        frames: list[GeneratedFrame] = []
        for t in range(labels.n_frames - n_past):
            previous = [torch.stack(scale[-n_past:], dim=1).detach() for scale in made]
            window = [scale.frames(slice(t, t + self.n_frames_G)) for scale in scaled_labels]
            if style is not None:
                styles = pyramid(style[:, t : t + 1], self.n_scales)
                window = [replace(w, style=x[:, 0]) for w, x in zip(window, styles, strict=True)]
            frame = self.frame(window, previous, raw_only, with_foreground)
            for scale, image in zip(made, frame.images, strict=True):
                scale.append(image)
            frames.append(frame)
        fake = torch.stack([frame.images[-1] for frame in frames], dim=1)
        return GeneratedChunk(
            fake=fake,
            raw=fake if self.no_flow else torch.stack([frame.raw for frame in frames], dim=1),
            flow=_stack([frame.flow for frame in frames]),
            weight=_stack([frame.weight for frame in frames]),
            history=[torch.stack(scale[-n_past:], dim=1).detach() for scale in made])

    def check_size(self, width: int, height: int) -> None:
        """Raise `UserError` for frames that the networks cannot halve often enough, to 2x2 features at least."""
        if min(height, width) < 2 * self.size_unit:
            raise UserError(
                f"frames of {width}x{height} are too small: both sides need {2 * self.size_unit} pixels for "
                f"generator.n_scales_spatial={self.n_scales} and this generator.n_downsample_G (lower these, or raise "
                "data.loadSize or data.fineSize)")
        if height % self.size_unit or width % self.size_unit:
            raise UserError(
                f"frames of {width}x{height}: both sides must be multiples of {self.size_unit} for "
                f"generator.n_scales_spatial={self.n_scales} and this generator.n_downsample_G "
                "(change data.loadSize, data.fineSize or data.resize_or_crop)")


def _stack(frames: list[Tensor | None]) -> Tensor | None:
    present = [frame for frame in frames if frame is not None]
    return torch.stack(present, dim=1) if present else None
