"""A checkpoint folder of the original: it loads name by name, and its generator makes the same frames."""

import torch
from torch import Tensor, nn

from tools.parity.case import Case, Check
from tools.parity.compare import FLOOR, relative_error, thin
from vid2vid_dist.config.schema import Config
from vid2vid_dist.models.discriminator import image_discriminator, temporal_discriminator
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import encode_labels
from vid2vid_dist.original.options import read_options


def check(case: Case) -> list[Check]:
    folder = case.path.parent / case.meta["folder"]
    cfg = read_options(folder / "opt.txt")
    generator = Generator(cfg).double()
    networks: dict[str, nn.Module] = {"D": image_discriminator(cfg)}
    networks |= {f"G{s}": generator.network(s) for s in range(cfg.generator.n_scales_spatial)}
    networks |= {f"D_T{s}": temporal_discriminator(cfg) for s in range(cfg.discriminator.n_scales_temporal)}
    checks = []
    for file, layout in case.meta["key_layout_[shape,dtype,sum,abs_sum]"].items():
        network = networks[file.split("_net_")[1].removesuffix(".pth")]
        network.load_state_dict(torch.load(folder / file, weights_only=True))
        ours = [(name, list(tensor.shape)) for name, tensor in network.state_dict().items()]
        expected = [(name, shape) for name, (shape, *_) in layout.items()]
        checks.append(Check(f"{file}: keys", float(ours != expected), 0))
        wrong = sum(abs(float(tensor.double().sum()) - layout[name][2]) > FLOOR * max(1.0, layout[name][3])
                    for name, tensor in network.state_dict().items())
        checks.append(Check(f"{file}: sums", wrong, 0))
    return checks + _check_frames(case, cfg, generator)


def _check_frames(case: Case, cfg: Config, generator: Generator) -> list[Check]:
    """Each frame from its labels and the history, which restarts from real frames where the case says."""
    tensors, checks = case.tensors(), []
    history: list[Tensor] = []
    for index, frame in enumerate(case.meta["frames"]):
        prefix = f"frame{index}."
        labels = tensors[f"{prefix}in.A_u8"][None, :, None]
        instances = tensors[f"{prefix}in.inst_u8"][None, :, None] if cfg.data.use_instance else None
        encoded = encode_labels(labels, instances, cfg.data.label_nc, torch.float64)
        if frame["history_restarted"]:
            real = tensors[f"{prefix}in.B_u8"][None, :cfg.generator.n_frames_G - 1].double()
            history = generator.start_history((real / 255 - 0.5) / 0.5)
        with torch.no_grad():
            chunk = generator.generate(encoded, history)
        history, fake = chunk.history, chunk.fake[0, 0]
        for name in [name for name in tensors if name.startswith(f"{prefix}fake_float")]:
            ours = thin(fake, name.partition("@")[2])
            tolerance = max(FLOOR, 2 * frame["float_max_f32_vs_f64"])
            checks.append(Check(name, relative_error(ours, tensors[name], 1.0), tolerance))
        levels = ((fake + 1) / 2 * 255).clamp(0, 255).byte().permute(1, 2, 0)
        name = f"{prefix}fake_u8_hwc"
        checks.append(Check(name, relative_error(levels, tensors[name], 1.0), 1))
    return checks
