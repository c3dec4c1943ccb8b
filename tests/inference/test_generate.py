"""Generation from a run folder to the page, and every request that cannot be met."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import ROOT
from tests.torchrun import torchrun
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import ClipSource, Frames, Request
from vid2vid_dist.data.images import to_float
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.edits import LabelEdit
from vid2vid_dist.inference.generate import GenerationOptions, generate, select_videos
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.results import safe_name
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.models.generator import GeneratedChunk
from vid2vid_dist.monitor.pictures import image_pictures
from vid2vid_dist.monitor.video import write_video

MakeRun = Callable[..., Path]


def n_frames(video: Path) -> int:
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, ROOT / "launch/generate.py", *arguments, "--device", "cpu"]
    return subprocess.run(call, capture_output=True, text=True, timeout=250, check=False)


def test_from_the_command_line_to_a_page(cfg: Config, make_run: MakeRun) -> None:
    run = make_run(cfg, ema=True)
    done = command(run, "--fps", "10")
    assert done.returncode == 0, done.stderr
    out = run / "results/test_step_00000100"
    assert re.search(r"8 frames: \S+ frames/s, \S+ s/frame, \S+ GiB at most", done.stdout)
    assert f"page: {(out / 'index.html').as_uri()}" in done.stdout
    for folder, frames in (("a___b", 3), ("park", 5)):
        files = sorted(path.name for path in (out / folder / "frames").iterdir())
        assert files == [f"frame{t:02d}.png" for t in range(2, 2 + frames)]
        assert n_frames(out / folder / "output.mp4") == frames
        assert n_frames(out / folder / "compare.mp4") == frames
        assert Image.open(out / folder / "poster.png").size == (2 * 64, 2 * 32)
    page = (out / "index.html").read_text()
    assert "//" not in page.replace("<!doctype html>", "")
    assert "<h2>a &amp; b</h2>" in page
    for caption in ("input", "output", "real", "warp error"):
        assert f"<span>{caption}</span>" in page
    assert "</b> warp error of the real</span>" in page
    assert "L1 to real: absolute difference of colours in [−1, 1]." in page
    references = [unquote(unescape(ref)) for ref in re.findall(r'(?:src|poster|href)="([^"]*)"', page)]
    assert len(references) == 8
    assert all((out / reference).exists() for reference in references)


def test_frames_are_those_of_the_generator(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(cfg)
    out = tmp_path / "out"
    options = GenerationOptions(videos=("park",), start_frame=1, how_many=2, device="cpu")
    outcome = generate(load_generator(run), options, out)
    assert outcome.frames == 2
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "park"]
    source = ClipSource(cfg.data, 3, 0, "test")
    frames = source.load(Request.span(source.whole(1), 1, 4))
    assert frames.images is not None
    video = VideoGenerator(load_generator(run).generator, cfg, torch.device("cpu"), torch.float32)
    real = to_float(frames.images, torch.float32)
    video.start([source.load(Request.span(source.whole(1), 1, 2))], real[None, :2])
    for t in (3, 4):
        fake = video.step([source.load(Request.span(source.whole(1), t, 1))]).fake[0]
        written = np.asarray(Image.open(out / "park/frames" / f"frame{t:02d}.png"))
        assert np.array_equal(written, image_pictures(fake)[0])


def test_without_real_frames(cfg: Config, make_run: MakeRun, shards: Path, tmp_path: Path,
                             caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(cfg)
    blind = [f"data.shards={shards / 'blind'}"]
    with pytest.raises(UserError, match="no real frames to start from: use --first single"):
        generate(load_generator(run, blind), GenerationOptions(device="cpu"), tmp_path / "out")
    generate(load_generator(run, blind), GenerationOptions(device="cpu", first="none"), tmp_path / "out")
    assert "trained with real first frames but started from nothing" in caplog.text
    page = (tmp_path / "out/index.html").read_text()
    assert "<span>real</span>" not in page
    assert "L1" not in page


def test_a_model_that_knows_no_first_frames_starts_from_nothing(
    cfg: Config, make_run: MakeRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg.generator.no_first_img = True
    generate(load_generator(make_run(cfg)), GenerationOptions(device="cpu", videos=("park",)), tmp_path / "out")
    assert "from nothing</b>" in (tmp_path / "out/index.html").read_text()
    assert "may look worse" not in caplog.text


def test_names_with_commas_can_be_selected() -> None:
    known = ["a", "a,b", "b,c,,d", "c"]
    for text, wanted in (("a,b", {"a,b"}), ("a,c", {"a", "c"}), ("a,a,b,b,c,,d", {"a", "a,b", "b,c,,d"})):
        assert select_videos(text.split(","), known, "here") == wanted
    with pytest.raises(UserError, match="no video b in here"):
        select_videos(["c", "b"], known, "here")


@pytest.mark.parametrize(("options", "message"), [
    (GenerationOptions(videos=("park", "zoo")), "no video zoo in .*: it has a & b, park"),
    (GenerationOptions(start_frame=3),
     "video a & b has 5 frames: with 2 to start from, --start-frame can be at most 2"),
    (GenerationOptions(split="train"), "no shards at"),
    (GenerationOptions(device="cuda"), "sees no GPU here; use --device cpu"),
    (GenerationOptions(input=ROOT / "slurm"), "--input .* reads a folder with"),
])
def test_options_that_cannot_be_met(cfg: Config, make_run: MakeRun, tmp_path: Path, options: GenerationOptions,
                                    message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        generate(load_generator(make_run(cfg)), options, tmp_path / "results/out")
    assert not (tmp_path / "results").exists()


def test_an_error_is_one_line(cfg: Config, make_run: MakeRun) -> None:
    done = command(make_run(cfg), "--how-many", "2", "data.laodSize=64")
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*data\.laodSize.*data\.loadSize.*\n", done.stderr)


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_of_somebody_else_is_left_alone(
        cfg: Config, make_run: MakeRun, tmp_path: Path, again: bool) -> None:
    precious = tmp_path / "out/park/holiday.jpg"
    precious.parent.mkdir(parents=True)
    precious.touch()
    loaded = load_generator(make_run(cfg))
    with pytest.raises(UserError, match="was not made by generation: choose another --out"):
        generate(loaded, GenerationOptions(device="cpu", videos=("park",), again=again), tmp_path / "out")
    assert precious.exists()


@pytest.mark.parametrize("n_scales", [1, 2])
def test_side_by_side_is_one_after_the_other(cfg: Config, make_run: MakeRun, tmp_path: Path, n_scales: int) -> None:
    """Videos of different length in one batch: what stands beside a frame changes nothing of it."""
    cfg.generator.n_scales_spatial = n_scales
    run = make_run(cfg)
    for batch in (1, 2):
        generate(load_generator(run), GenerationOptions(device="cpu", batch=batch), tmp_path / str(batch))
    for path in sorted(tmp_path.glob("1/*/frames/*.png")):
        beside = tmp_path / "2" / path.relative_to(tmp_path / "1")
        one, two = (np.asarray(Image.open(p)).astype(int) for p in (path, beside))
        assert abs(one - two).max() <= 1


def test_dealt_over_ranks(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    """Two ranks make what one makes, and one page."""
    run = make_run(cfg)
    done = torchrun(2, "launch/generate.py", str(run), "--device", "cpu", "--out", str(tmp_path / "two"))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("page: file") == 1
    assert "8 frames: " in done.stdout
    generate(load_generator(run), GenerationOptions(device="cpu"), tmp_path / "one")
    sections = [re.findall("<h2>.*?</h2>", (tmp_path / n / "index.html").read_text()) for n in ("one", "two")]
    assert sections == [["<h2>a &amp; b</h2>", "<h2>park</h2>"]] * 2
    for path in sorted(tmp_path.glob("one/*/frames/*.png")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_goes_on_where_it_was_interrupted(cfg: Config, make_run: MakeRun, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    run, options, step, n_steps = make_run(cfg), GenerationOptions(device="cpu"), VideoGenerator.step, 0

    def interrupted(self: VideoGenerator, frames: list[Frames]) -> GeneratedChunk:
        nonlocal n_steps
        n_steps += 1
        if n_steps == 7:  # in the second video
            raise KeyboardInterrupt
        return step(self, frames)

    with monkeypatch.context() as patch:
        patch.setattr(VideoGenerator, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate(load_generator(run), options, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["park", "toy_street"]
    complete = (tmp_path / "park/output.mp4").stat().st_mtime_ns
    outcome = generate(load_generator(run), options, tmp_path)
    assert (outcome.frames, outcome.kept) == (3, 1)
    assert (tmp_path / "park/output.mp4").stat().st_mtime_ns == complete
    page = outcome.page.read_text()
    assert "<b>8</b> frames" in page
    assert page.count("</b> L1 to real</span>") == 2
    assert generate(load_generator(run), replace(options, batch=2), tmp_path).kept == 2
    (tmp_path / "park/video.json").write_text("[" * 10**5)  # damaged, and deeper than the parser goes
    assert generate(load_generator(run), options, tmp_path).kept == 1
    assert generate(load_generator(run), replace(options, again=True), tmp_path).kept == 0
    assert generate(load_generator(run), replace(options, start_frame=1), tmp_path).kept == 0


def test_an_edit_stands_beside_the_original(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    run, plain = make_run(cfg), GenerationOptions(device="cpu", videos=("park",))
    generate(load_generator(run), plain, tmp_path / "plain")
    outcome = generate(load_generator(run), replace(plain, edit=LabelEdit(classes=((1, 2),))), tmp_path / "edited")
    page = outcome.page.read_text()
    for caption in ("input", "input edited", "output", "edited", "real", "warp error"):
        assert f"<span>{caption}</span>" in page
    assert "<b>label 1 becomes 2</b> edit" in page
    folder = tmp_path / "edited/park"
    changed = []
    for path in sorted((tmp_path / "plain/park/frames").iterdir()):
        original, edited = (np.asarray(Image.open(folder / name / path.name)) for name in ("frames", "frames_edited"))
        assert abs(np.asarray(Image.open(path)).astype(int) - original).max() <= 1
        changed.append(not np.array_equal(original, edited))
    assert len(changed) == 5
    assert all(changed)
    assert n_frames(folder / "edited.mp4") == 5


def test_half_precision_and_a_video_file(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    cfg.data.label_nc, cfg.data.use_instance, cfg.generator.fg = 0, False, False
    write_video(tmp_path / "ride.mp4", [np.full((32, 64, 3), 40 * t, np.uint8) for t in range(6)], 10)
    run = make_run(cfg)
    done = command(run, "--input", tmp_path / "ride.mp4", "--first", "none", "--precision", "bf16",
                   "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert n_frames(tmp_path / "out/ride/output.mp4") == 4
    assert "<span>warp error</span>" in (tmp_path / "out/index.html").read_text()


@pytest.mark.full
def test_compiled(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(cfg)
    for compiled in (False, True):
        options = GenerationOptions(device="cpu", videos=("park",), compiled=compiled)
        generate(load_generator(run), options, tmp_path / str(compiled))
    for path in sorted(tmp_path.glob("False/park/frames/*.png")):
        plain, fast = (np.asarray(Image.open(p)).astype(int) for p in
                       (path, tmp_path / "True" / path.relative_to(tmp_path / "False")))
        assert abs(plain - fast).max() <= 1


def test_generating_again_replaces(cfg: Config, make_run: MakeRun, tmp_path: Path,
                                   caplog: pytest.LogCaptureFixture) -> None:
    loaded = load_generator(make_run(cfg))
    for how_many in (4, 2):
        assert not [record for record in caplog.records if record.levelname == "WARNING"]
        generate(loaded, GenerationOptions(device="cpu", videos=("park",), how_many=how_many), tmp_path)
    assert len(list((tmp_path / "park/frames").iterdir())) == 2
    assert f"1 of the videos in {tmp_path} were made with other options and are replaced: --out" in caplog.text
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize(("name", "safe"), [
    ("../../etc/passwd", "_.._etc_passwd"), ("..", "_"), ("seq 01", "seq_01"), ("größe.x", "größe.x"),
])
def test_safe_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe
