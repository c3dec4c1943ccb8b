"""The step of one frame in other runtimes makes the frames that generation makes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import ROOT
from tests.inference.conftest import HEIGHT, WIDTH
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.export import export
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.one_frame import StepOptions
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.monitor.pictures import image_pictures
from vid2vid_dist.network_input import encode_inputs

N_FRAMES, N_PAST = 5, 2
Step = Callable[..., list[Tensor]]


def make_video(step: Step, first_step: Step, labels: Tensor, history: list[Tensor]) -> np.ndarray:
    """As the host of such a program does: (T, H, W, 3) uint8 of dense labels (1, F, C, H, W)."""
    frames = []
    for t in range(labels.shape[1] - N_PAST):
        images = (step if t else first_step)(labels[:, t : t + N_PAST + 1], *history)
        history = [torch.cat([h[:, 1:], image[:, None]], dim=1) for h, image in zip(history, images, strict=True)]
        frames.append(images[-1])
    return image_pictures(torch.cat(frames))


@pytest.mark.long
@pytest.mark.parametrize(("runtime", "from_nothing"), [("onnx", False), ("torch", False), ("torch", True)])
def test_frames_are_ours(cfg: Config, make_run: Callable[..., Path], tmp_path: Path, runtime: str, from_nothing: bool
                         ) -> None:
    """Also the first frame, but not of a grey past: where all is grey, rounding is all that there is to normalise."""
    if runtime == "onnx":
        pytest.importorskip("onnxscript")
        ort = pytest.importorskip("onnxruntime")
    cfg.generator.n_scales_spatial, cfg.generator.no_first_img = 2, from_nothing
    loaded = load_generator(make_run(cfg))
    export(loaded, tmp_path / "out", StepOptions((WIDTH, HEIGHT), runtime == "onnx", runtime == "torch"))

    def program(name: str) -> Step:
        if runtime == "torch":
            return torch.export.load(tmp_path / f"out/{name}.pt2").module()
        session = ort.InferenceSession(tmp_path / f"out/{name}.onnx")
        names = [given.name for given in session.get_inputs()]
        return lambda *given: [torch.from_numpy(made) for made in session.run(
            None, {key: x.numpy() for key, x in zip(names, given, strict=True)})]

    ids = torch.randint(6, (N_FRAMES, 1, 4, 8), dtype=torch.uint8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    frames = Frames(ids, None, ids.int(), [""] * N_FRAMES)
    labels = encode_inputs(cfg, [frames], torch.device("cpu"), torch.float32).dense()
    first = torch.rand(1, N_PAST, 3, HEIGHT, WIDTH)
    made = make_video(program("step"), program("first_step" if from_nothing else "step"), labels,
                      loaded.generator.start_history(first))

    video = VideoGenerator(loaded.generator, cfg, torch.device("cpu"), torch.float32)
    video.start([frames.part(slice(0, N_PAST))], first)
    video._from_nothing = from_nothing
    ours = image_pictures(torch.cat([video.step([frames.part(slice(t, t + 1))]).fake[0]
                                     for t in range(N_PAST, N_FRAMES)]))
    assert ours.std() > 1
    assert np.abs(made.astype(int) - ours).max() <= 1


def test_what_cannot_be_a_program_is_told(cfg: Config, make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(cfg)
    with pytest.raises(UserError, match="frames of 65x32: both sides must be multiples"):
        export(load_generator(run), tmp_path / "out", StepOptions((65, 32), False, True))
    assert not (tmp_path / "out").exists()
    done = subprocess.run([sys.executable, ROOT / "launch/export.py", run, tmp_path / "out", "--torch-export"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("give --size WxH\n")
