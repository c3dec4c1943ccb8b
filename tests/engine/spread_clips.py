"""Small networks, and clips that are a function of their number, for tests of the engine."""

import torch
from torch import Tensor

from vid2vid_dist.data.clips import Frames

HEIGHT, WIDTH, CHUNK, N_STEPS = 32, 64, 3, 3
SMALL = [
    "data.label_nc=8", "data.use_instance=true", "generator.ngf=4", "generator.n_blocks=2",
    "generator.n_blocks_local=1", "generator.n_downsample_G=2", "generator.n_scales_spatial=2",
    "generator.fg=true", "generator.fg_labels=[3, 5]",
    "discriminator.ndf=4", "discriminator.num_D=2", "loss.no_vgg=true",
]


def clip(number: int, n_frames: int) -> Frames:
    """Random blocks of labels and smooth random pictures, a function of the number.

    Smooth, because the gradient of a warp jumps where a flow crosses a whole pixel, and flows start near zero.
    """
    random = torch.Generator().manual_seed(number)

    def blocks(high: int, channels: int, dtype: torch.dtype) -> Tensor:
        coarse = torch.randint(0, high, (n_frames, channels, HEIGHT // 4, WIDTH // 4), generator=random)
        return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3).to(dtype)

    pictures = torch.rand(n_frames, 3, HEIGHT // 8, WIDTH // 8, generator=random)
    pictures = torch.nn.functional.interpolate(pictures, (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1) * 255
    names = [str(i) for i in range(n_frames)]
    return Frames(blocks(8, 1, torch.uint8), pictures.to(torch.uint8), blocks(40, 1, torch.int32), names)
