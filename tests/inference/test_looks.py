"""A model with styles makes videos: several looks side by side, each the same in every frame, and every refusal."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vid2vid_dist.cli import fit_styles as fit_command
from vid2vid_dist.cli import generate as generate_command
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.images import to_float
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.colours import ColourMeter, edit_figures
from vid2vid_dist.inference.edits import LabelEdit
from vid2vid_dist.inference.evaluate import evaluate
from vid2vid_dist.inference.export import export
from vid2vid_dist.inference.generate import GenerationOptions, generate
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.quality import Judges
from vid2vid_dist.inference.style_fitting import fit_styles
from vid2vid_dist.inference.styles import FILE, StyleBook, StyleOptions, choose_styles, fingerprint, look_of
from vid2vid_dist.inference.video_generator import VideoGenerator

MakeRun = Callable[..., Path]
OPTIONS = GenerationOptions(device="cpu", videos=("park",), how_many=2)


@pytest.fixture
def styled(cfg: Config) -> Config:
    cfg.generator.style_nc, cfg.generator.no_first_img = 2, True
    return cfg


@pytest.fixture
def run(styled: Config, make_run: MakeRun) -> Path:
    """A run with a book of three looks, drawn by chance."""
    run = make_run(styled)
    add_book(run)
    return run


def add_book(run: Path, seed: int = 0) -> StyleBook:
    encoder = load_generator(run).generator.netE
    assert encoder is not None
    vectors = torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    book = StyleBook(vectors, fingerprint(encoder))
    book.save(run / FILE)
    return book


def frames_of(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]


def command(module: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
            *arguments: object) -> tuple[int, str]:
    """Exit status, and what was said."""
    monkeypatch.setattr("sys.argv", ["command", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run_main(module.main)  # type: ignore[attr-defined]
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def test_looks_stand_side_by_side(run: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, style=StyleOptions((0, 2)), edit=LabelEdit(classes=((1, 2),)))
    page = generate(load_generator(run), options, tmp_path / "all").page.read_text()
    for caption in ("input", "input edited", "style 0", "style 2", "style 0 edited", "style 2 edited", "real"):
        assert f"<span>{caption}</span>" in page
    for figure in ("colour drift", "between styles", "change where edited", "change elsewhere"):
        assert figure in page
    folder = tmp_path / "all/park"
    assert {path.name for path in folder.glob("*.mp4")} == {
        "style_0.mp4", "style_2.mp4", "style_0_edited.mp4", "style_2_edited.mp4", "compare.mp4"}
    zero, two = (frames_of(folder / name) for name in ("frames_style_0", "frames_style_2"))
    assert not np.array_equal(zero[0], two[0])
    for number, frames in ((0, zero), (2, two)):  # each is what it is alone
        generate(load_generator(run), replace(OPTIONS, style=StyleOptions((number,))), tmp_path / str(number))
        alone = frames_of(tmp_path / str(number) / "park/frames")
        # In levels of 255; the looks are 10 apart. Rounding differs with the batch, by how much with the processor.
        assert max(abs(a.astype(int) - b).mean() for a, b in zip(alone, frames, strict=True)) < 0.5


def test_without_options_the_first_look(run: Path, tmp_path: Path) -> None:
    for name, options in (("default", OPTIONS), ("zero", replace(OPTIONS, style=StyleOptions((0,))))):
        generate(load_generator(run), options, tmp_path / name)
    for a, b in zip(frames_of(tmp_path / "default/park/frames"), frames_of(tmp_path / "zero/park/frames"), strict=True):
        assert np.array_equal(a, b)


def test_another_look_is_not_taken_for_what_is_there(run: Path, tmp_path: Path) -> None:
    loaded = load_generator(run)
    assert generate(load_generator(run), replace(OPTIONS, style=StyleOptions((0,))), tmp_path / "a").kept == 0
    assert generate(load_generator(run), replace(OPTIONS, style=StyleOptions((0,))), tmp_path / "a").kept == 1
    assert generate(load_generator(run), replace(OPTIONS, style=StyleOptions((1,))), tmp_path / "a").kept == 0
    add_book(run, seed=1)
    assert generate(loaded, replace(OPTIONS, style=StyleOptions((1,))), tmp_path / "a").kept == 0


def test_a_look_is_the_same_in_every_frame(styled: Config, run: Path) -> None:
    """A still of labels from a still past: the style alone decides, and it does not move."""
    loaded = load_generator(run)
    (style,) = choose_styles(StyleOptions((1,)), loaded)
    source = ClipSource(styled.data, 3, 0, "test")
    still = source.load(Request.span(source.whole(1), 0, 1))
    video = VideoGenerator(loaded.generator, styled, torch.device("cpu"), torch.float32)
    labels = Request.span(source.whole(1), 0, 2)
    fakes = []
    for _ in range(2):
        video.start([source.load(labels)], torch.zeros(1, 2, 3, 32, 64), style.vectors[None])
        fakes.append(video.step([still]).fake)
    assert torch.equal(*fakes)
    video.start([source.load(labels)], torch.zeros(1, 2, 3, 32, 64), -style.vectors[None])
    assert not torch.allclose(video.step([still]).fake, fakes[0])


def test_the_look_of_a_picture(styled: Config, run: Path, tmp_path: Path) -> None:
    loaded, book = load_generator(run), add_book(run)
    encoder = loaded.generator.netE
    assert encoder is not None
    source = ClipSource(styled.data, 3, 0, "test")
    frame = source.load(Request.span(source.whole(1), 0, 1))
    assert frame.images is not None
    labels = frame.labels.clamp(max=2)
    Image.fromarray(frame.images[0].permute(1, 2, 0).numpy()).save(tmp_path / "street.png")
    Image.fromarray(labels[0, 0].numpy()).save(tmp_path / "ids.png")
    options = StyleOptions((1,), tmp_path / "street.png", tmp_path / "ids.png")
    numbered, (name, vectors) = choose_styles(options, loaded)[0], vars(choose_styles(options, loaded)[1]).values()
    assert (numbered.name, name) == ("style 1", "look of street")
    expected = encoder(to_float(frame.images, torch.float32))
    for number in (0, 1, 2):
        here = labels[0, 0] == number
        assert torch.allclose(vectors[number], expected[0][:, here].mean(dim=1), atol=1e-5)
    distance = (book.vectors[:, :3] - vectors[:3]).square().sum(dim=(1, 2))
    assert torch.equal(vectors[3:], book.vectors[distance.argmin(), 3:])
    generate(loaded, replace(OPTIONS, style=options), tmp_path / "out")
    assert len(frames_of(tmp_path / "out/park/frames_look_of_street")) == 2


def test_a_picture_of_the_book_has_its_look(run: Path) -> None:
    """What was fitted to one frame is the look of that frame."""
    encoder = load_generator(run).generator.netE
    assert encoder is not None
    image, labels = torch.rand(3, 32, 64) * 2 - 1, torch.randint(0, 6, (1, 32, 64))
    look = look_of(encoder, image, labels, add_book(run))
    again = look_of(encoder, image, labels, StyleBook(look[None], ""))
    assert torch.equal(look, again)


def test_fitted_exported_and_found_again(styled: Config, make_run: MakeRun, tmp_path: Path, shards: Path,
                                         capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(styled, ema=True)
    with pytest.raises(UserError, match=r"no looks to choose from: .*styles\.safetensors is missing; fit them"):
        generate(load_generator(run), OPTIONS, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "train").symlink_to(shards / "full/test")
    status, said = command(fit_command, capsys, monkeypatch, run, f"data.shards={tmp_path}", "--styles", 4,
                           "--frames", 6, "--device", "cpu")
    assert status == 0, said
    assert "4 looks from 6 frames, for the weights of step_00000100" in said
    export(load_generator(run), tmp_path / "passed_on")
    for source in (run, tmp_path / "passed_on"):
        status, said = command(generate_command, capsys, monkeypatch, source, "--style", "0,3", "--how-many", 1,
                               "--device", "cpu", "--out", tmp_path / f"of_{source.name}")
        assert status == 0, said
    for path in (tmp_path / f"of_{run.name}").glob("park/frames*/*"):
        other = tmp_path / "of_passed_on" / path.relative_to(tmp_path / f"of_{run.name}")
        assert path.read_bytes() == other.read_bytes()
    with pytest.raises(UserError, match="fitted to other weights"):
        export(load_generator(run, raw_weights=True), tmp_path / "raw")


@pytest.mark.parametrize(("arguments", "message"), [
    (("--style", "3"), r"--style 3: .*styles\.safetensors holds looks 0\.\.2"),
    (("--style", "a"), "a is no number from 0 on"),
    (("--style", "-1"), "expected one argument|-1 is no number from 0 on"),
    (("--style", "1,1"), "a number is given twice"),
    (("--style-image", "a.png"), "--style-image and --style-labels go together"),
    (("--style-image", "nowhere.png", "--style-labels", "nowhere.png"), r"nowhere\.png cannot be read"),
])
def test_looks_that_cannot_be_had(run: Path, arguments: tuple[str, ...], message: str,
                                  capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, said = command(generate_command, capsys, monkeypatch, run, *arguments, "--device", "cpu")
    assert status == 2
    assert re.search(message, said), said
    assert not [path for path in run.glob("results/**/*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize(("image", "ids", "message"), [
    (np.zeros((32, 64, 3), np.uint8), np.zeros((32, 64, 3), np.uint8), "expected one channel of ids"),
    (np.zeros((32, 64, 3), np.uint8), np.zeros((16, 32), np.uint8), "give both of one frame"),
    (np.zeros((32, 64, 3), np.uint8), np.full((32, 64), 6, np.uint8), "label id 6 is not below data.label_nc=6"),
])
def test_pictures_that_give_no_look(run: Path, tmp_path: Path, image: np.ndarray, ids: np.ndarray,
                                    message: str) -> None:
    for name, array in (("image.png", image), ("ids.png", ids)):
        Image.fromarray(array).save(tmp_path / name)
    with pytest.raises(UserError, match=message):
        choose_styles(StyleOptions((), tmp_path / "image.png", tmp_path / "ids.png"), load_generator(run))


def test_a_model_without_styles_has_no_looks(cfg: Config, make_run: MakeRun) -> None:
    loaded = load_generator(make_run(cfg))
    assert choose_styles(StyleOptions(), loaded) == []
    with pytest.raises(UserError, match="need a model that was trained with"):
        choose_styles(StyleOptions((0,)), loaded)
    with pytest.raises(UserError, match="trained without styles"):
        fit_styles(loaded, 3, 10, torch.device("cpu"))


def test_figures_of_a_model_with_styles(run: Path, tmp_path: Path) -> None:
    (evaluation,) = evaluate([load_generator(run)], replace(OPTIONS, how_many=0), Judges(), tmp_path / "out")
    assert {"L1", "warp error"} <= set(evaluation.names)


def test_drift_and_distance_of_known_colours() -> None:
    """Two outputs, half sky and half road: one sky gets darker by 0.2 in the second frame, nothing else moves."""
    labels = torch.zeros(1, 2, 4, dtype=torch.uint8)
    labels[:, 1] = 7
    outputs = torch.zeros(2, 3, 2, 4)
    outputs[1, :, 0] = 1.0  # skies are 0.5 apart in a range of 1, roads not at all
    meter = ColourMeter()
    assert meter.step(labels, outputs) == pytest.approx({"between styles": 0.25})
    outputs[1, :, 0] = 0.6
    assert meter.step(labels, outputs) == pytest.approx({"between styles": 0.15, "colour drift": 0.05})
    assert ColourMeter().step(labels, outputs[:1]) == {}


def test_what_an_edit_changes() -> None:
    changed = torch.tensor([[[True, False]]])
    plain, edited = torch.zeros(1, 3, 1, 2), torch.tensor([0.8, 0.1]).expand(1, 3, 1, 2)
    assert edit_figures(changed, plain, edited) == pytest.approx({"change where edited": 0.4, "change elsewhere": 0.05})
    assert list(edit_figures(~(changed & False), plain, edited)) == ["change where edited"]
