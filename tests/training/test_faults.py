"""Values that are not finite and frames that cannot be read: what is left out, what stays as it was, what is kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.damage import spoil_picture
from tests.training.test_trainer import TWO_EPOCHS, Configure, folder_of, saved_steps, status
from vid2vid_dist.config.schema import Config, OptimConfig
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.engine.roles.build import build_engine
from vid2vid_dist.engine.run.executor import StepResult
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.toy.face import render_toy_face
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.training.trainer import Trainer

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NAN = float("nan")


def spoil_a_gradient(trainer: Trainer, *steps: int, role: str = "generator") -> None:
    """One element of one gradient becomes NaN in these steps (numbers of the run, as they were tried)."""
    tried, pipeline = [0], trainer.state.pipeline
    take_step, engine = pipeline.step, trainer.state.engines()[role]
    parameter = next(p for p in engine.module.parameters() if p.requires_grad)

    def counted(*arguments: Any) -> StepResult:
        tried[0] += 1
        return take_step(*arguments)

    def spoil(gradient: Tensor) -> Tensor:
        if tried[0] in steps:
            gradient = gradient.clone()
            gradient.view(-1)[0] = NAN
        return gradient

    pipeline.step = counted
    parameter.register_hook(spoil)


def journal(cfg: Config) -> str:
    return (folder_of(cfg) / "metrics.jsonl").read_text()


@pytest.mark.parametrize("role", ["generator", "image"])
def test_no_weight_changes_in_a_nonfinite_step(configure: Configure, grid: Grid, role: str) -> None:
    """Also not of the roles whose own gradients are fine. The batch is kept."""
    cfg = configure(*TWO_EPOCHS, "run.save_every_steps=3")
    trainer = Trainer(cfg, grid)
    spoil_a_gradient(trainer, 4, role=role)
    with pytest.raises(UserError, match=rf"step 4: not finite: rank 0: gradient of {role}\. .*optim\.lr"):
        trainer.run()
    assert saved_steps(cfg) == [3]
    assert status(cfg)["status"] == "failed"
    faults, checkpoint = folder_of(cfg) / "faults/step_00000004", folder_of(cfg) / "checkpoints/step_00000003"
    for name in ("generator", "image", "temporal_0"):
        before, after = (load_file(folder / f"{name}.safetensors") for folder in (checkpoint, faults))
        assert before.keys() == after.keys()
        same = {key for key in before if after[key].equal(before[key])}
        assert same >= {key for key in before if not key.endswith(STATISTICS)}
    told = json.loads((faults / "rank_00000.json").read_text())
    assert told["nonfinite"] == [f"gradient of {role}"]
    assert told["after"] == {"step": 3, "epoch": 1, "round": 1, "chunk": 1}
    ((clip,),) = told["lanes"].values()
    kept = load_file(faults / "rank_00000.safetensors")
    assert kept["lane_0/clip_0/images"].shape == (len(clip["frames"]), 3, 32, 64)
    assert int(kept["lane_0/kept/n_seen"]) == 2


def test_a_nonfinite_loss_counts(configure: Configure, grid: Grid) -> None:
    """One that no gradient depends on."""
    cfg = configure(*TWO_EPOCHS)
    trainer = Trainer(cfg, grid)
    image: Any = trainer.state.roles["image"]
    see_fake = image.see_fake

    def ill(*args: object, **more: object) -> object:
        terms, gradients = see_fake(*args, **more)
        return {**terms, "D_real": terms["D_real"] / 0}, gradients

    image.see_fake = ill
    with pytest.raises(UserError, match="step 1: not finite: rank 0: D_real"):
        trainer.run()


def test_nonfinite_steps_are_left_out_up_to_a_limit(configure: Configure, grid: Grid) -> None:
    """The clip of such a step is given up: one of 2 chunks by its first, one of 3 chunks by its second."""
    cfg = configure(*TWO_EPOCHS, "optim.max_nonfinite=2")
    trainer = Trainer(cfg, grid)
    spoil_a_gradient(trainer, 1, 7)
    trainer.run()
    assert trainer.state.position.step == 15 - 2 - 2
    assert status(cfg)["status"] == "finished"
    assert "step 1: not finite: rank 0: gradient of generator: left out" in journal(cfg)
    assert "(2 of optim.max_nonfinite=2)" in journal(cfg)
    assert all(x.isfinite().all() for x in trainer.state.generator.state_dict().values())
    assert not list((folder_of(cfg) / "faults").rglob("generator.safetensors"))

    cfg = configure(*TWO_EPOCHS, "optim.max_nonfinite=1", "run.name=other")
    trainer = Trainer(cfg, grid)
    spoil_a_gradient(trainer, 1, 7)
    with pytest.raises(UserError, match="step 6: not finite"):
        trainer.run()


def test_a_run_that_leaves_out_its_last_clip_is_the_shorter_run(configure: Configure, grid: Grid) -> None:
    """Nothing of a step that is left out comes through, neither in weights nor in Adam's moments."""
    weights = {}
    for name, n_clips in {"short": 1, "left_out": 2}.items():
        cfg = configure("schedule.niter=1", "schedule.niter_decay=0", "schedule.n_frames_total=2", "data.shuffle=false",
                        f"data.max_videos={n_clips}", f"run.name={name}", "optim.max_nonfinite=1")
        trainer = Trainer(cfg, grid)
        if name == "left_out":
            spoil_a_gradient(trainer, 3)
        trainer.run()
        assert trainer.state.position.step == 2
        weights[name] = {role: engine.module.state_dict() for role, engine in trainer.state.engines().items()}
    for role, tensors in weights["short"].items():
        assert all(weights["left_out"][role][key].equal(x) for key, x in tensors.items())


@pytest.fixture
def spoilt(shards: Path, tmp_path: Path) -> Callable[[int], str]:
    """Shards in which the first frames of so many videos cannot be read, as an override."""
    def make(n_videos: int) -> str:
        copy = tmp_path / f"shards_{n_videos}"
        shutil.copytree(shards, copy)
        for video in range(n_videos):
            spoil_picture(copy, video)
        return f"data.shards={copy}"

    return make


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_frames_are_left_out_up_to_a_limit(
        configure: Configure, grid: Grid, spoilt: Callable[[int], str], workers: int) -> None:
    """Frame 2 of the video is in every clip of 8 frames: once in each of two epochs."""
    whole = ("schedule.n_frames_total=6", "schedule.max_frames_per_rank=2", "schedule.niter=1",
             "schedule.niter_decay=1", "schedule.max_frames_backpropagate=2", f"data.workers={workers}", spoilt(1))
    cfg = configure(*whole, "data.max_faults=2")
    trainer = Trainer(cfg, grid)
    trainer.run()
    assert trainer.state.position.step == 2 * 2 * 3
    assert status(cfg)["status"] == "finished"
    assert "(2 of data.max_faults=2): images of street0000/frame000002" in journal(cfg)

    with pytest.raises(UserError, match=r"data\.max_faults=1 allows; the last: images of street0000/frame000002"):
        Trainer(configure(*whole, "data.max_faults=1", "run.name=other"), grid).run()


@pytest.mark.parametrize(("workers", "video"), [(0, 1), (2, 1), (0, 0)])
def test_a_clip_that_cannot_be_cut_costs_its_own_round(configure: Configure, grid: Grid, tmp_path: Path, workers: int,
                                                       video: int) -> None:
    """Landmarks of its first frame say how it is cut; those of clips before it, decoded ahead, are used. Those of the
    first video are read at the start already."""
    render_toy_face(tmp_path / "raw", ToyOptions(n_train=3, n_test=1, n_frames=6, width=96, height=72))
    make_shards(tmp_path / "raw", tmp_path / "faces", PackOptions(task="face"))
    spoil_picture(tmp_path / "faces", video, modality="keypoints", frame=0)
    cfg = configure("data.task=face", "data.label_nc=0", "data.input_nc=15", f"data.shards={tmp_path / 'faces'}",
                    "data.shuffle=false", "schedule.n_frames_total=4", "schedule.max_frames_per_rank=2",
                    "schedule.niter=1", "schedule.niter_decay=0", f"data.workers={workers}", "data.max_faults=1")
    trainer = Trainer(cfg, grid)
    trainer.run()
    assert trainer.state.position.step == 2 * 2
    assert (f"step {2 * video + 1}: left out with the rest of its clips (1 of data.max_faults=1): keypoints of"
            in journal(cfg))


def test_a_nonfinite_step_is_undone_by_every_zero_stage(grid: Grid) -> None:
    """Nothing of it is in weights, moments and counts, nor its gradients in the next step's; by Adam as on a CPU and
    as on a GPU."""
    def train(optim: OptimConfig, fused: bool, losses: list[float]) -> dict[str, Tensor]:
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
        engine = build_engine(module, lambda p: torch.optim.Adam(p, 1e-2, (0.5, 0.999), fused=fused), optim, grid)
        norms = []
        for factor in losses:
            engine.begin()
            engine.backward(factor * engine.module(torch.ones(2, 3)).sum())
            engine.reduce()
            finite = engine.gradient_norm.isfinite()
            engine.step(refused=(~finite).float())
            if not finite:
                engine.discard()
            norms.append(engine.update_norm)
        assert torch.stack(norms).isfinite().all()
        return {name: x.clone() for name, x in (module.state_dict() | engine.state()).items()}

    for optim in (OptimConfig(backend="plain"), OptimConfig(zero_stage=1), OptimConfig(zero_stage=2),
                  OptimConfig(offload=True)):
        for fused in (False, True):
            good, undone = train(optim, fused, [1.0, 2.0]), train(optim, fused, [1.0, NAN, 2.0])
            assert good.keys() == undone.keys()
            assert all(good[name].equal(undone[name]) for name in good), optim
