"""Figures on inputs with known answers: equal frames, noise, a shift by a known flow, Gaussians."""

import json
import math
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.inference.conftest import write_run
from tests.inference.judging_networks import ReadsColours, VideoNetwork
from vid2vid_dist.config.schema import Config, FlowConfig
from vid2vid_dist.data.video_file import frames_of
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference._torchmetrics import LPIPS
from vid2vid_dist.inference.evaluate import Evaluator, evaluate
from vid2vid_dist.inference.figures import Evaluation, SetFigure, lines
from vid2vid_dist.inference.generate import GenerationOptions
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.quality import HIGHEST_PSNR, Judges, WeightFiles, frame_figures
from vid2vid_dist.inference.segmentation import SCRIPT
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.flow import FlowReference, build_flow
from vid2vid_dist.models.warp_error import warp_error

NONE = Judges()
HEIGHT, WIDTH, SHIFT = 64, 96, 3
LABELS = torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.uint8)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Uniform in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def texture() -> Tensor:
    """A smooth picture (1, 3, H, 2 W), wide enough for a camera to move over."""
    return nn.functional.interpolate(noise(1, 3, 8, 24), size=(HEIGHT, 2 * WIDTH), mode="bicubic").clamp(-1, 1)


def moving(n_frames: int) -> list[Tensor]:
    """The picture seen by a camera that moves SHIFT pixels to the right in every frame."""
    return [texture()[..., t * SHIFT : t * SHIFT + WIDTH] for t in range(n_frames)]


def evaluated(fakes: list[Tensor], reals: list[Tensor] | None) -> Evaluation:
    evaluator = Evaluator(NONE, build_flow(FlowConfig()))
    evaluator.begin_video("street")
    for t, fake in enumerate(fakes):
        evaluator.add(fake, None if reals is None else reals[t], LABELS)
    return evaluator.finish()


def test_equal_videos() -> None:
    found = evaluated(moving(5), moving(5))
    assert (found.mean("L1"), found.mean("PSNR"), found.mean("SSIM")) == (0.0, HIGHEST_PSNR, pytest.approx(1.0))
    assert found.mean("warp error") == found.mean("warp error of the real") < 0.01
    assert found.drift("PSNR") == pytest.approx(0, abs=1e-9)
    assert math.isnan(found.by_frame("warp error")[0])  # nothing comes before the first frame


def test_noise_on_top() -> None:
    """A difference of standard deviation s has an L1 of s sqrt(2/pi) and a PSNR of 20 log10(2 / s)."""
    real = torch.zeros(1, 3, 256, 256)
    fake = 0.1 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    figures = frame_figures(NONE, fake, real)
    assert figures["L1"] == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.01)
    assert figures["PSNR"] == pytest.approx(20 * math.log10(2 / 0.1), abs=0.05)
    assert figures["SSIM"] < 0.5


def test_a_shift_by_a_known_flow_costs_nothing() -> None:
    before, now = moving(2)
    flow = torch.zeros(1, 2, HEIGHT, WIDTH)
    flow[:, 0] = SHIFT  # the point at x was at x + SHIFT one frame earlier
    seen = torch.ones(1, 1, HEIGHT, WIDTH)
    seen[..., -SHIFT:] = 0  # came into the picture
    assert float(warp_error(now, before, FlowReference(flow, seen)).mean) < 1e-6
    still = warp_error(now, before, FlowReference(0 * flow, seen))
    assert float(still.mean) == pytest.approx(float(((now - before).abs().mean(1, keepdim=True) / 2 * seen).sum()
                                                    / seen.sum()), rel=1e-5)
    assert float(still.mean) > 0.01
    assert (still.map[..., -SHIFT:] == 0).all()


def test_independent_frames_flicker() -> None:
    """Two independent uniform colours of a range of 1 are 1/3 apart; the real video says that nothing moves."""
    reals = [torch.zeros(1, 3, HEIGHT, WIDTH)] * 4
    found = evaluated([noise(1, 3, HEIGHT, WIDTH, seed=t) for t in range(4)], reals)
    assert found.mean("warp error") == pytest.approx(1 / 3, rel=0.02)
    assert found.mean("warp error of the real") == 0


def test_drift_is_the_slope_over_frames() -> None:
    """A video that leaves the real one by 0.002 a frame."""
    reals = [torch.zeros(1, 3, HEIGHT, WIDTH)] * 20
    found = evaluated([real + 0.002 * t for t, real in enumerate(reals)], reals)
    assert found.drift("L1") == pytest.approx(0.2, rel=1e-4)
    assert found.by_frame("L1") == pytest.approx(0.002 * np.arange(20), abs=1e-6)


def test_videos_of_different_length() -> None:
    found = Evaluation({"long": {"L1": [1.0, 1.0, 4.0]}, "short": {"L1": [3.0]}})
    assert found.by_frame("L1").tolist() == [2.0, 1.0, 4.0]
    assert found.mean("L1") == 2.25


def test_without_real_frames() -> None:
    found = evaluated(moving(4), None)
    assert found.names == ["warp error"]
    assert found.mean("warp error") < 0.01


def test_a_figure_that_no_frame_has_is_null() -> None:
    """Frames that are not finite, or flow that is trusted nowhere."""
    nowhere = {"L1": [math.nan, math.nan]}
    stored = json.loads(Evaluation({"street": nowhere}, {"FID": SetFigure(math.nan, "one frame")}).to_json())
    assert stored["figures"]["L1"]["mean"] is None
    assert stored["sets"]["FID"]["value"] is None


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> WeightFiles:
    """Files of the right shape: networks with random weights still tell equal from different."""
    root = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(models.alexnet(weights=None).state_dict(), root / "alexnet.pth")
    torch.jit.save(torch.jit.script(VideoNetwork()), root / "i3d.pt")
    torch.jit.save(torch.jit.script(ReadsColours()), root / "colours.pt")
    return WeightFiles(lpips=str(root / "alexnet.pth"), fvd=str(root / "i3d.pt"),
                       segmentation=str(root / "colours.pt"), segmentation_network=SCRIPT)


def test_weights_are_those_of_the_file(weights: WeightFiles) -> None:
    judges = Judges.load(WeightFiles(lpips=weights.lpips), 0)
    fake, real = noise(1, 3, 64, 64, seed=1), noise(1, 3, 64, 64, seed=2)
    assert frame_figures(judges, real, real)["LPIPS"] == 0
    expected = LPIPS(net="alex", pnet_rand=True)
    features = torch.load(weights.lpips, weights_only=True)
    for name, parameter in expected.net.named_parameters():
        parameter.data.copy_(features[f"features.{name.split('.', 1)[1]}"])
    assert frame_figures(judges, fake, real)["LPIPS"] == pytest.approx(float(expected(fake, real)), rel=1e-5)
    assert frame_figures(judges, fake, real)["LPIPS"] > 0


def test_weights_that_are_not_there_or_another_networks(weights: WeightFiles, tmp_path: Path) -> None:
    for files in (WeightFiles(lpips="gone"), WeightFiles(fid="gone"), WeightFiles(fvd="gone")):
        with pytest.raises(UserError, match=r"no weights file at 'gone': .*vid2vid_dist weights` fetches it"):
            Judges.load(files, 0)
    for files in (WeightFiles(lpips=weights.fvd), WeightFiles(fid=weights.lpips), WeightFiles(fvd=weights.segmentation),
                  WeightFiles(fvd=weights.lpips)):
        with pytest.raises(UserError, match=r"another network|not a readable weights file|is no TorchScript"):
            Judges.load(files, 0)
    torch.save({"run me": Path("a pickled object")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth: not a readable weights file"):
        Judges.load(WeightFiles(fid=str(tmp_path / "evil.pth")), 0)
    with pytest.raises(UserError, match="this model reads none"):
        Judges.load(weights, label_nc=0)


def test_from_a_run_to_table_page_and_events(cfg: Config, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (found,) = evaluate([load_generator(write_run(tmp_path, cfg))], GenerationOptions(device="cpu"), NONE, out)
    assert [len(figures["L1"]) for figures in found.frames.values()] == [3, 5]
    stored = json.loads((out / "evaluation.json").read_text())
    assert stored["figures"]["PSNR"]["mean"] == pytest.approx(found.mean("PSNR"))
    assert stored["videos"]["park"]["warp error"][0] is None
    assert len(stored["figures"]["L1"]["by_frame"]) == 5
    table = list(lines([found]))
    assert table[1].endswith("low     8 frames of 2 videos, 64x32")
    n_trusted = sum(np.isfinite(figures["warp error"]).sum() for figures in found.frames.values())
    assert table[4].endswith(f"low     {n_trusted} frames of 2 videos, 64x32")
    assert [line.split("  ")[0] for line in table] == ["figure", "L1", "PSNR", "SSIM", "warp error",
                                                       "warp error of the real"]
    page = (out / "index.html").read_text()
    for name in found.names:
        assert f"{name} over frames" in page
    assert list((out / "tensorboard").glob("events.*"))


def test_two_runs_side_by_side(cfg: Config, tmp_path: Path, weights: WeightFiles) -> None:
    """The figures are those of each alone, on the frames that both can make; the second has a longer memory."""
    longer = deepcopy(cfg)
    longer.generator.n_frames_G, longer.run.name = cfg.generator.n_frames_G + 1, "longer"
    runs = [load_generator(write_run(tmp_path, config)) for config in (cfg, longer)]
    judges = Judges.load(WeightFiles(segmentation=weights.segmentation, segmentation_network=SCRIPT,
                                     segmentation_ids=(0, 1, 2)), cfg.data.label_nc)
    options, out = GenerationOptions(device="cpu", how_many=2, videos=("park",)), tmp_path / "out"
    found = evaluate(runs, options, judges, out)
    alone = [evaluate([runs[0]], replace(options, start_frame=1), judges, tmp_path / "one"),
             evaluate([runs[1]], options, judges, tmp_path / "two")]
    for both, (one,) in zip(found, alone, strict=True):
        assert both.to_json() == one.to_json()
    assert found[0].mean("L1") != found[1].mean("L1")
    header, *rows = (re.split(" {2,}", line) for line in lines(found))
    assert header == [
        "figure", cfg.run.name, "longer", "difference", f"drift of {cfg.run.name}", "drift of longer", "better", "over"]
    assert rows[0][-1] == "2 frames of 1 video, 64x32"
    assert rows[-2][0] == "mIoU of the real"
    assert len(list(frames_of(out / "park/compare.mp4"))) == 2
    page = (out / "index.html").read_text()
    assert all(part in page for part in ('poster="park/poster.png"', f"<span>{cfg.run.name}</span>",
                                         "<span>longer</span>", "<span>real</span>"))
    assert json.loads((out / "against/evaluation.json").read_text())["run"] == "longer"


def test_runs_that_make_other_frames_are_not_compared(cfg: Config, tmp_path: Path) -> None:
    wide = deepcopy(cfg)
    wide.run.name, wide.data.loadSize = "wide", 2 * cfg.data.loadSize
    runs = [load_generator(write_run(tmp_path, config)) for config in (cfg, wide)]
    with pytest.raises(UserError, match=r"wide and .* frames of another size \(.*128, 64.*64, 32"):
        evaluate(runs, GenerationOptions(device="cpu"), NONE, tmp_path / "out")
