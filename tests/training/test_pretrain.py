"""Starting from the weights of an earlier run: coarse to fine, and wider discriminators."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import nn

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.roles.build import build_modules, role_specs
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.discriminator import image_discriminator
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.training.checkpoint import weights_file
from vid2vid_dist.training.pretrain import PretrainReport, find_weights, load_pretrained
from vid2vid_dist.training.trainer import Trainer

Configure = Callable[..., Config]


def save(module: nn.Module, folder: Path, role: str) -> dict:
    for parameter in module.parameters():
        nn.init.constant_(parameter, 0.5)  # no initial weight is that
    save_file(module.state_dict(), weights_file(folder, role))
    return module.state_dict()


def test_the_coarse_scale_is_loaded_and_the_fine_one_fresh(configure: Configure, tmp_path: Path) -> None:
    # The coarsest network of two scales is as wide as the one of a single scale.
    coarse = save(Generator(configure()), tmp_path, "generator")
    fine = Generator(configure("generator.n_scales_spatial=2"))
    before = {name: tensor.clone() for name, tensor in fine.state_dict().items()}
    report = load_pretrained(tmp_path, "generator", fine)
    assert sorted(report.loaded) == sorted(coarse)
    assert {name.split(".")[0] for name in report.loaded} == {"netG0"}
    assert {name.split(".")[0] for name in report.fresh} == {"netG1"}
    assert report.unused == []
    for name, tensor in fine.state_dict().items():
        assert tensor.equal(coarse[name] if name in coarse else before[name])


def test_the_style_encoder_goes_on_at_the_next_stage(configure: Configure, tmp_path: Path) -> None:
    """And a run without styles leaves it and the first convolutions over labels as initialised, and says so."""
    save(Generator(configure("generator.style_nc=3")), tmp_path, "generator")
    report = load_pretrained(tmp_path, "generator", Generator(configure("generator.style_nc=3",
                                                                        "generator.n_scales_spatial=2")))
    assert {name.split(".")[0] for name in report.loaded} == {"netG0", "netE"}
    save(Generator(configure()), tmp_path, "generator")
    report = load_pretrained(tmp_path, "generator", Generator(configure("generator.style_nc=3")))
    fresh = {name for name in report.fresh if not name.startswith("netE.")}
    assert {name.rpartition(".")[0] for name in fresh} <= {"netG0.model_down_seg.1", "netG0.indv_down.1"}
    assert "netE.model" in report.line()


def test_patch_scales_go_on_at_their_resolution(configure: Configure, tmp_path: Path) -> None:
    """Scale 0 is the coarsest: with one scale more, the old ones keep their numbers and the finest is new."""
    saved = save(image_discriminator(configure("discriminator.num_D=2")), tmp_path, "image")
    wider = image_discriminator(configure("discriminator.num_D=3", "discriminator.ndf=2"))
    report = load_pretrained(tmp_path, "image", wider)
    scales = {name.split("_")[0] for name in report.loaded}
    assert scales == {"scale0", "scale1"}
    assert {name.split("_")[0] for name in report.fresh} == {"scale2"}
    for name in report.loaded:
        assert wider.state_dict()[name].equal(saved[name])


def test_tensor_of_another_shape_stays_fresh(configure: Configure, tmp_path: Path) -> None:
    save(image_discriminator(configure()), tmp_path, "image")
    more_labels = image_discriminator(configure("data.use_instance=true"))
    report = load_pretrained(tmp_path, "image", more_labels)
    assert {name.split(".")[0] for name in report.fresh} == {"scale0_layer0", "scale1_layer0"}


def test_role_without_a_file_stays_fresh(configure: Configure, tmp_path: Path) -> None:
    module = build_modules(role_specs(configure()))["temporal_0"]
    report = load_pretrained(tmp_path, "temporal_0", module)
    assert (report.loaded, report.fresh) == ([], list(module.state_dict()))


def test_report_names_what_became_of_the_tensors() -> None:
    fresh = [f"netG1.{part}.{layer}.weight" for part in ("down", "res", "up", "head", "flow") for layer in (0, 1)]
    report = PretrainReport("generator", ["netG0.a", "netG0.b"], fresh, ["netG9.x.bias"])
    assert report.line() == (
        "generator: 2 tensors loaded, 10 left as initialised (netG1.down, netG1.res, netG1.up, netG1.head and 1 more), "
        "1 of the file not used (netG9.x)")
    assert PretrainReport("image", ["a"], [], []).line() == "image: 1 tensors loaded"


def test_a_coarse_run_starts_a_fine_one(configure: Configure, grid: Grid, tmp_path: Path) -> None:
    Trainer(configure("run.name=coarse", "run.max_steps=2", "optim.lr=1e-2"), grid).run()
    fine = configure("run.name=fine", "run.max_steps=2", "generator.n_scales_spatial=2", "discriminator.num_D=3",
                     "discriminator.ndf=2", f"run.load_pretrain={tmp_path / 'coarse'}", "optim.ema_decay=0.5",
                     "schedule.niter_fix_global=1")
    trainer = Trainer(fine, grid)
    trained = load_file(tmp_path / "coarse/checkpoints/step_00000002/generator.safetensors")
    start = {name: tensor.clone() for name, tensor in trainer.state.generator.state_dict().items()}
    assert trainer.state.ema is not None
    for name in start:
        assert trainer.state.ema.average[name].equal(start[name])
        assert not name.startswith("netG0") or start[name].equal(trained[name])
    journal = (tmp_path / "fine/metrics.jsonl").read_text()
    n_coarse = len(trained)
    assert f"generator: {n_coarse} tensors loaded, {len(start) - n_coarse} left as initialised (netG1." in journal
    assert "left as initialised (scale2_layer0.0," in journal

    trainer.run()
    after = load_file(tmp_path / "fine/checkpoints/step_00000002/generator.safetensors")
    weights = [name for name, _ in trainer.state.generator.named_parameters()]
    assert all(after[name].equal(trained[name]) for name in weights if name.startswith("netG0"))  # not trained yet
    assert not all(after[name].equal(start[name]) for name in weights if name.startswith("netG1"))
    # A resumed run takes its own weights, not the ones that it once started from.
    resumed = Trainer(fine, grid)
    assert resumed.state.pretrained == []
    assert all(t.equal(after[name]) for name, t in resumed.state.generator.state_dict().items())


def test_what_cannot_be_loaded_is_named(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.load_pretrain=nowhere: no nowhere/generator\.safetensors; name a run"):
        find_weights("nowhere")
    (tmp_path / "empty/checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="this run has no checkpoint yet"):
        find_weights(str(tmp_path / "empty"))
