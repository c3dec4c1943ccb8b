"""The textbook step follows the golden training traces, and batches of clips go into ours whole."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import GOLDEN
from tests.engine.textbook_step import Chunk, TextbookStep
from tools.parity.case import Case
from tools.parity.discover import discover
from tools.parity.options import config_of_case
from tools.parity.trace import RELATIVE, StandInFlow, random_vgg19, recorded_clips, stored_modules, totals, train
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.roles.build import build_modules, role_specs

# With no_first_img the original's rounding is part of the record (see tools/parity/trace.py).
TRACES = [case for case in discover(GOLDEN)
          if case.path.parent.name == "train_trace" and not case.options["no_first_img"]]
N_CHUNKS = 9  # of every trace: past the first clip, and into the second reach of the gradient
ORIGINAL = {"generator": "G", "image": "D.netD", "temporal_0": "D.netD_T0"}


class RecordedStep(TextbookStep):
    """Past the first chunk the original took a chunk's last frame for the one before it (spec: quirks Q14, Q15)."""

    def frame_before(self, chunk: Chunk, t: int) -> Tensor:
        at_border = t == chunk.new.start > 0
        return chunk.fake[chunk.new[-1]] if at_border else super().frame_before(chunk, t)


def follow(cfg: Config, meta: dict[str, Any], tensors: dict[str, Tensor]) -> list[dict[str, float]]:
    """Losses and totals of the recorded chunks, by the textbook; schedule and learning rates are those recorded.

    The original never trained the scales that its first optimiser did not have (spec: quirks Q3).
    """
    recorded = meta["chunks"][:N_CHUNKS]
    book = RecordedStep(cfg, stored_modules(cfg, tensors), StandInFlow(), None if cfg.loss.no_vgg else random_vgg19(),
                        torch.optim.Adam, train_all_scales=recorded[0]["finetune_all"])
    seen, found = dict.fromkeys((chunk["iter"] for chunk in recorded), 0), []
    for chunk in recorded:
        for role, optimizer in book.optimizers.items():
            kind = {"generator": "G", "image": "D", "face": "D"}.get(role) or "D_T" + role.removeprefix("temporal_")
            if kind in chunk["opt"]:
                optimizer.param_groups[0].update({key: chunk["opt"][kind][key] for key in ("lr", "betas")})
        number, n_frames = chunk["iter"], chunk["n_frames_load"]
        clips = {number: recorded_clips(cfg, tensors, number)}
        losses = book.step(clips, seen[number], n_frames, chunk["n_frames_bp"])
        seen[number] += n_frames
        values = {name: float(loss) for name, loss in losses.items()}
        found.append(values | totals(values))
    return found


def worst(recorded: dict[str, float], found: dict[str, float]) -> float:
    """Terms that a configuration does not have are 0 in the original's log and absent from ours."""
    return max(abs(value - found.get(name, 0.0)) / max(abs(value), 1e-12) for name, value in recorded.items())


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no folder {GOLDEN}: set GOLDEN")
@pytest.mark.parametrize("case", TRACES, ids=lambda case: case.name)
def test_textbook_follows_the_record(case: Case) -> None:
    cfg = config_of_case(case.options)
    cfg.optim.precision = "fp64"
    found = follow(cfg, case.meta, case.tensors())
    assert len(found) >= 6
    for number, (recorded, ours) in enumerate(zip(case.meta["chunks"], found, strict=False)):
        assert worst(recorded["losses_f64"], ours) < RELATIVE, f"chunk {number}"


def test_clips_of_a_batch_are_normalised_together() -> None:
    """A made-up record of two batches of two clips: our run of it is the textbook's."""
    cfg = load_config(None, [
        "data.label_nc=4", "generator.ngf=4", "generator.n_blocks=2", "generator.n_downsample_G=2",
        "discriminator.ndf=4", "discriminator.n_scales_temporal=1", "loss.no_vgg=true", "parallel.batch_size=2",
        "schedule.max_frames_per_rank=2", "schedule.n_frames_total=4", "optim.precision=fp64", "optim.backend=plain"])
    random = torch.Generator().manual_seed(0)
    tensors = {f"sd.{name}": tensor for role, module in build_modules(role_specs(cfg)).items()
               for name, tensor in module.state_dict(prefix=f"{ORIGINAL[role]}.").items()}
    for batch in range(2):
        tensors[f"in.seq{batch}.A_u8"] = torch.randint(4, (2, 6, 16, 24), dtype=torch.uint8, generator=random)
        tensors[f"in.seq{batch}.B_u8"] = torch.randint(256, (2, 18, 16, 24), dtype=torch.uint8, generator=random)
    step = {"lr": cfg.optim.lr, "betas": [cfg.optim.beta1, 0.999]}
    meta = {"events": [{"type": "sequence", "iter": batch} for batch in range(2)],
            "chunks": [{"iter": batch, "n_frames_load": 2, "n_frames_bp": 1, "finetune_all": True,
                        "opt": dict.fromkeys(("G", "D", "D_T0"), step)} for batch in (0, 0, 1, 1)]}
    ours, textbook = train(cfg, meta, tensors).chunks, follow(cfg, meta, tensors)
    assert [chunk.fake.shape[:2] for chunk in ours] == [(2, 2)] * 4
    for mine, other in zip(ours, textbook, strict=True):
        assert mine.losses.keys() == other.keys()
        assert worst(mine.losses, other) < RELATIVE
