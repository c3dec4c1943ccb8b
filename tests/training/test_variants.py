"""Every kind of configuration trains through ZeRO, learns finite weights, and resumes bit by bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.training.trainer import Trainer

ZERO = ("optim.backend=zero", "schedule.niter=1", "schedule.niter_decay=1", "schedule.niter_step=1",
        "schedule.n_frames_total=3", "schedule.max_frames_per_rank=3")
STREET = ("data.use_instance=true", "generator.fg=true")
ROWS = {
    "bf16 with average": ("optim.precision=bf16", "optim.ema_decay=0.9", *STREET),
    "bf16 across the switch to all scales": (
        "optim.precision=bf16", "generator.n_scales_spatial=2", "schedule.niter_fix_global=1", "optim.TTUR=true"),
    "activations computed again, state on the host": (
        "optim.checkpoint_activations=true", "optim.channels_last=true", "optim.offload=true", *STREET),
    "ZeRO 2, gradients through two frames": (
        "optim.zero_stage=2", "schedule.max_frames_backpropagate=3", "generator.no_first_img=true"),
    "hinge without flow, sparse groups": (
        "loss.gan_mode=hinge", "generator.no_flow=true", "discriminator.sparse_D=true", "loss.no_ganFeat=true"),
    "spectral norms, warm-up, short gradients": (
        "generator.spectral_norm=true", "discriminator.spectral_norm=true", "optim.checkpoint_activations=true",
        "optim.warmup_steps=3", "optim.clip_norm=0.1", "optim.ema_decay=0.9", "loss.gan_mode=logistic"),
    "augmentation and R1": (
        "discriminator.augment=adaptive", "loss.r1_gamma=1", "loss.r1_every=2", "loss.gan_mode=logistic", *STREET),
    "spade": (
        "generator.norm=spade", "generator.spectral_norm=true", "generator.style_nc=2", "optim.ema_decay=0.9",
        "optim.checkpoint_activations=true", "monitor.pictures_every=2", *STREET),
    "styles across the switch to all scales": (
        "generator.style_nc=2", "generator.n_scales_spatial=2", "schedule.niter_fix_global=1", "optim.ema_decay=0.9",
        "monitor.pictures_every=2", *STREET),
    "two lanes of two clips, instance norm": (
        "parallel.clips_per_step=4", "parallel.batch_size=2", "generator.norm=instance",
        "discriminator.frames_per_pass=1"),
}


def final_weights(cfg: Config) -> dict[str, Tensor]:
    folder = Path(cfg.run.root) / cfg.run.name / "checkpoints"
    newest = folder / (folder / "latest").read_text().strip()
    return {f"{path.stem}.{name}": tensor for path in sorted(newest.glob("*.safetensors"))
            for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("overrides", ROWS.values(), ids=ROWS.keys())
def test_trains_and_resumes(configure: Callable[..., Config], grid: Grid, overrides: tuple[str, ...]) -> None:
    whole, parts = (configure(*ZERO, *overrides, f"run.name={name}") for name in ("whole", "parts"))
    Trainer(whole, grid).run()
    parts.run.max_steps = 2
    Trainer(parts, grid).run()
    parts.run.max_steps = 0
    Trainer(parts, grid).run()
    ours, theirs = final_weights(parts), final_weights(whole)
    assert ours.keys() == theirs.keys()
    assert any("generator_ema" in name for name in ours) == bool(whole.optim.ema_decay)
    for name, tensor in theirs.items():
        assert tensor.isfinite().all(), name
        assert torch.equal(ours[name], tensor), name
