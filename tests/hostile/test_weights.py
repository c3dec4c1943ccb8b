"""Weights, options and looks from anywhere: published files, folders of the original, single images, style books."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from tests.hostile.attack import VALUES, attack, examples, mutate, mutate_safetensors, nested, watched
from vid2vid_dist.cli.export_vid2vid import export_folder
from vid2vid_dist.cli.import_vid2vid import import_folder
from vid2vid_dist.config.load import load_config, save_config
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import load_single_image
from vid2vid_dist.inference.styles import StyleBook, fingerprint
from vid2vid_dist.models.encoder import FeatureEncoder
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.single_image import ImageGenerator
from vid2vid_dist.models.weights import load_published

PICKLE = [b"cos\nsystem\n", b"(S'true'\ntR.", b"\x80\x02", b"PK\x03\x04", b"ustar"]


def pickles(states: list[dict[str, Tensor]], path: Path) -> Callable[[random.Random], bytes]:
    """Makes broken files of `torch.save`: bytes changed, tables of other things, tensors of other shapes."""
    samples = []
    for state in states:
        for zipped in (True, False):
            torch.save(state, path, _use_new_zipfile_serialization=zipped)
            samples.append(path.read_bytes())

    def change(rng: random.Random, state: dict[str, Tensor]) -> Any:
        name, kind = rng.choice(list(state)), rng.randrange(7)
        tensor = state[name]
        others: list[Any] = [
            tensor.flatten(), tensor[None], torch.zeros(1).expand(2**40), tensor.to(torch.complex64),
            torch.empty(3, 4, device="meta"), torch.eye(3).to_sparse(), rng.choice(VALUES)]
        return {**state, rng.choice([name, "model.1.weight", "x" * 300, "a\0b"]): others[kind]}

    def hostile(rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return mutate(rng, rng.choice(samples), PICKLE)
        table = rng.choice([*VALUES, {1: torch.zeros(2)}]) if rng.random() < 0.3 else change(rng, rng.choice(states))
        torch.save(table, path)
        return path.read_bytes()

    return hostile


@examples(150)
def test_published_weights(n: int, tmp_path: Path) -> None:
    network, path = nn.Linear(3, 2), tmp_path / "w.pth"

    def use(data: bytes) -> None:
        path.write_bytes(data)
        load_published(network, str(path), "set the key")

    assert attack(n, pickles([network.state_dict()], path), use, tmp_path) > n / 2


def test_weights_that_would_run_a_program(tmp_path: Path) -> None:
    class Program:
        def __reduce__(self) -> tuple:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"weight": Program()}, tmp_path / "w.pth")
    with watched(tmp_path), pytest.raises(UserError, match="not a readable weights file"):
        load_published(nn.Linear(3, 2), str(tmp_path / "w.pth"), "set the key")
    assert not (tmp_path / "ran").exists()


@examples(150)
def test_single_images(n: int, tmp_path: Path) -> None:
    path = tmp_path / "g.pth"
    states = [ImageGenerator(5, 4, 2, 1).state_dict(), ImageGenerator(5, 4, 2, 1, 1, 1).state_dict()]

    def use(data: bytes) -> None:
        path.write_bytes(data)
        load_single_image(path)

    assert attack(n, pickles(states, path), use, tmp_path) > n / 2


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the original with one small generator."""
    folder = tmp_path_factory.mktemp("original")
    run = folder / "run"
    run.mkdir()
    cfg = load_config(None, ["data.label_nc=4", "data.use_instance=false", "generator.fg=false", "generator.ngf=4",
                             "generator.n_blocks=2", "generator.n_downsample_G=2"])
    save_config(cfg, run / "config.yaml")
    (run / "generator.safetensors").write_bytes(save(Generator(cfg).state_dict()))
    export_folder(run, folder / "original")
    return folder / "original"


@examples(40)
def test_generators_of_the_original(n: int, original: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(original, tmp_path / "folder"))
    file = folder / "latest_net_G0.pth"
    whole = torch.load(file, weights_only=True)

    def use(data: bytes) -> None:
        file.write_bytes(data)
        import_folder(folder, tmp_path / "out")

    assert attack(n, pickles([whole], tmp_path / "sample.pth"), use, tmp_path) > n / 2


@examples(100)
def test_options_of_the_original(n: int, original: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(original, tmp_path / "folder"))
    file = folder / "opt.txt"
    whole = file.read_bytes()
    values = [str(value).encode("utf-8", "replace") for value in VALUES] + [b"1j", b"{1}", b"b'x'", b"...", b"[1, 'x']"]
    lines = whole.splitlines()

    def hostile(rng: random.Random) -> bytes:
        kind = rng.random()
        if kind < 0.1:
            return b"ngf: " + nested(rng, *rng.choice([("[", "]"), ("{1:", "}"), ("-", "")])).encode()
        if kind < 0.4:
            return mutate(rng, whole, [b"\n", b": ", b"\xff", b"9" * 5000])
        number = rng.randrange(len(lines))
        name = lines[number].split(b":")[0]
        return b"\n".join([*lines[:number], name + b": " + rng.choice(values), *lines[number + 1:]])

    def use(data: bytes) -> None:
        file.write_bytes(data)
        import_folder(folder, tmp_path / "out")

    assert attack(n, hostile, use, tmp_path) > n / 3


@examples(100)
def test_style_books(n: int, tmp_path: Path) -> None:
    encoder, path = FeatureEncoder(2, 4, 1), tmp_path / "styles.safetensors"
    StyleBook(torch.zeros(3, 5, 2), fingerprint(encoder)).save(path)
    whole = path.read_bytes()

    def use(data: bytes) -> None:
        path.write_bytes(data)
        StyleBook.load(path, encoder, 5)

    use(whole)
    assert attack(n, lambda rng: mutate_safetensors(rng, whole, [b'"vectors"']), use, tmp_path) > n / 3
