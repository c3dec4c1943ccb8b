"""The list of roles, and what it announces."""

from dataclasses import replace

import pytest
import torch

from tests.engine.one_rank import OneRank, Watched
from tests.engine.plans import specs_of
from tests.engine.spread_clips import clip
from tools.lanes import clip_of
from vid2vid_dist.config.load import load_config
from vid2vid_dist.engine.plan.tasks import INTO_WEIGHTS, Bucket, LaneChunk, Task
from vid2vid_dist.engine.roles.build import build_modules, role_specs, trained_buckets
from vid2vid_dist.engine.run.tensor_store import TaskTensors, TensorStore

CHUNK = 4


def test_the_generator_is_reduced_last_and_roles_rest_until_there_are_groups() -> None:
    specs = specs_of()
    assert specs.trained == ["image", "temporal_0", "temporal_1", "generator"]
    assert specs.active(LaneChunk(0, 2)) == ["image", "generator"]
    assert specs.active(LaneChunk(0, CHUNK)) == ["image", "temporal_0", "generator"]
    assert specs.active(LaneChunk(CHUNK, CHUNK)) == specs.trained


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, other = (
        build_modules(specs_of(generator__ngf=4, discriminator__ndf=4, generator__n_blocks=2, run__seed=seed))
        for seed in (1, 1, 2))
    assert list(first) == ["generator", "image", "temporal_0", "temporal_1"]
    for role, module in first.items():
        weights = torch.cat([p.flatten() for p in module.parameters()])
        assert torch.equal(weights, torch.cat([p.flatten() for p in second[role].parameters()]))
        assert not torch.equal(weights, torch.cat([p.flatten() for p in other[role].parameters()]))


@pytest.mark.parametrize("overrides", [
    ("discriminator.n_scales_temporal=2", "loss.no_vgg=false"),
    ("generator.no_first_img=true", "discriminator.n_scales_temporal=0"),
    ("generator.no_flow=true", "data.label_nc=0", "data.use_instance=false", "generator.fg=false",
     "discriminator.add_face_disc=true"),
], ids=str)
def test_every_announced_loss_is_found_and_no_other(overrides: tuple[str, ...]) -> None:
    """The second chunk has every temporal scale. All are numbers."""
    rank = OneRank(*overrides)
    frames = clip(0, rank.cfg.generator.n_frames_G - 1 + 2 * CHUNK)
    if not rank.cfg.data.label_nc:
        assert frames.images is not None
        frames = replace(frames, labels=frames.images)
    lane = clip_of(rank.cfg, [frames], torch.device("cpu"))
    for first in (0, CHUNK):
        found = rank.step(lane, CHUNK).losses
        assert found.keys() == {loss.name for spec in rank.specs.all if spec.is_active(LaneChunk(first, CHUNK))
                                for loss in spec.losses}
        assert all(loss.isfinite() for loss in found.values())


@pytest.mark.parametrize(("overrides", "n_buckets"), [
    (("generator.n_scales_spatial=2", "generator.fg=true"), 3),
    (("generator.style_nc=3", "data.use_instance=true"), 3),
    (("generator.style_nc=3", "generator.norm=spade", "generator.spectral_norm=true"), 3),
    (("generator.no_flow=true",), 3),
    (("optim.zero_stage=2",), 1),
    (("generator.netG=global", "generator.fg=false", "generator.n_scales_spatial=1", "generator.norm=instance",
      "generator.no_flow=true", "generator.no_first_img=true", "discriminator.n_scales_temporal=0"), 1),
], ids=str)
def test_a_task_leaves_gradients_in_its_bucket_only(overrides: tuple[str, ...], n_buckets: int,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket is reduced when its tasks are done: a gradient in another one would come too late. And all get some."""
    rank, left = OneRank(*overrides), set[Bucket]()
    run = Watched.run

    def watched(self: Watched, task: Task, step: TensorStore) -> TaskTensors:
        if task.kind not in INTO_WEIGHTS:
            return run(self, task, step)
        assert self.engine is not None
        before = [p.grad.clone() for p in self.engine.module.parameters() if p.grad is not None]
        made = run(self, task, step)
        changed = {p for p, old in zip(self.engine.module.parameters(), before, strict=True)
                   if p.grad is not None and not p.grad.equal(old)}
        spec = rank.specs[task.role]
        for number, weights in enumerate(spec.weights(self.engine.module)):
            if changed & {*weights}:
                left.add(Bucket(task.role, number))
                assert number == spec.bucket(task.kind, task.scale), task.name
        return made

    monkeypatch.setattr(Watched, "run", watched)
    lane = clip_of(rank.cfg, [clip(0, rank.cfg.generator.n_frames_G - 1 + CHUNK)], torch.device("cpu"))
    rank.step(lane, CHUNK)
    active = rank.specs.active(LaneChunk(0, CHUNK))
    assert left == {bucket for bucket in rank.specs.buckets if bucket.role in active}
    assert rank.specs["generator"].n_buckets == n_buckets
    for role in rank.specs.trained:
        weights = [p for of in rank.specs[role].weights(rank.module(role)) for p in of]
        assert sorted(map(id, weights)) == sorted(map(id, rank.module(role).parameters()))


@pytest.mark.parametrize("recipe", ["street/512", "street/2048", "street/modern/512", "face/512", "pose/1024"])
def test_weights_lie_at_multiples_of_16_bytes_also_in_bf16(recipe: str) -> None:
    """But for what has an odd number of elements itself."""
    specs = role_specs(load_config(recipe))
    for name in specs.trained:
        with torch.device("meta"):
            module = specs[name].network()
        assert module is not None
        start = 0
        for p in (p for bucket in trained_buckets(specs[name], module) for p in bucket):
            assert start % 8 == 0 or p.numel() % 8, (name, p.shape)
            start += p.numel()
