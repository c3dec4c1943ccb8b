"""Looks fitted to regions: what clusters they find, how they hang together, and whom they do not belong to."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.style_fitting import StyleFitter
from vid2vid_dist.inference.styles import StyleBook, fingerprint
from vid2vid_dist.models.encoder import FeatureEncoder

N_CLASSES = 5
SEASONS = {0: (0.8, -0.6), 1: (-0.5, 0.3), 2: (0.1, 0.9)}
"""What the first feature of a sky (class 0) and of a tree (class 2) is in each."""


class Colours(FeatureEncoder):
    """Gives the first two channels of the image back."""

    def __init__(self) -> None:
        super().__init__(2, ngf=2, n_downsample=1)
        pick = nn.Conv2d(3, 2, 1, bias=False)
        pick.weight.data = torch.eye(3)[:2, :, None, None]
        self.model = nn.Sequential(pick)


def frame(season: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sky above trees, a little noise on both; two trees beside each other are two regions."""
    labels = torch.tensor([0, 0, 0, 2, 2], dtype=torch.uint8)[None, :, None].expand(1, 5, 6).clone()
    regions = labels.int()
    regions[:, 3:, 3:] = 2001
    sky, tree = SEASONS[season]
    image = 0.02 * torch.randn(3, 5, 6, generator=rng)
    image[0] += torch.where(labels[0] == 0, sky, tree)
    return image, labels, regions


def fitted(order: list[int], n_styles: int, per_class: int = 2048) -> StyleBook:
    fitter, rng = StyleFitter(Colours(), N_CLASSES, per_class), torch.Generator().manual_seed(0)
    for season in order:
        fitter.add(*frame(season, rng))
    return fitter.fit(n_styles)


def test_clusters_are_found_and_those_of_the_same_frames_share_a_number() -> None:
    vectors = fitted([0, 1, 2, 2, 1, 0, 1], 3).vectors
    assert vectors.shape == (3, N_CLASSES, 2)
    looks = sorted((round(float(sky), 1), round(float(tree), 1)) for sky, tree in vectors[:, [0, 2], 0])
    assert looks == sorted(SEASONS.values())


def test_the_same_frames_give_the_same_book() -> None:
    one, two = (fitted([0, 1, 2, 1], 3).vectors for _ in range(2))
    assert torch.equal(one, two)


def test_a_class_that_was_never_seen_takes_the_mean_of_the_others() -> None:
    vectors = fitted([0, 1, 2], 3).vectors
    assert torch.allclose(vectors[:, 1], vectors[:, [0, 2]].mean(dim=1))
    assert vectors.isfinite().all()


def test_fewer_looks_than_asked_for_are_repeated() -> None:
    vectors = fitted([0], 4).vectors
    assert len(vectors) == 4
    assert len(vectors[:, 0].unique(dim=0)) == 1


def test_memory_is_bounded_and_the_largest_regions_stay() -> None:
    fitter, rng = StyleFitter(Colours(), N_CLASSES, per_class=3), torch.Generator().manual_seed(0)
    for season in [0] * 4:
        image, labels, _ = frame(season, rng)
        fitter.add(image[:, :, :2], labels[:, :, :2], labels[:, :, :2].int())
    for season in [1] * 3:
        image, labels, _ = frame(season, rng)
        fitter.add(image, labels, labels.int())
    vectors = fitter.fit(1).vectors
    assert vectors[0, [0, 2], 0].tolist() == pytest.approx(SEASONS[1], abs=0.05)


def test_without_frames() -> None:
    with pytest.raises(UserError, match="no frames"):
        fitted([], 3)


def test_a_book_comes_back_and_belongs_to_its_encoder(tmp_path: Path) -> None:
    encoder = FeatureEncoder(3, ngf=4, n_downsample=2)
    book = StyleBook(torch.rand(4, N_CLASSES, 3), fingerprint(encoder))
    book.save(tmp_path / "styles.safetensors")
    found = StyleBook.load(tmp_path / "styles.safetensors", encoder, N_CLASSES)
    assert torch.equal(found.vectors, book.vectors)
    assert fingerprint(encoder.double()) == book.encoder
    with torch.no_grad():
        next(encoder.parameters())[0, 0, 0, 0] += 1e-3
    with pytest.raises(UserError, match="fitted to other weights than these: fit them again"):
        StyleBook.load(tmp_path / "styles.safetensors", encoder, N_CLASSES)


def test_a_file_that_is_cut_after_it_was_read(tmp_path: Path) -> None:
    """A mapped one would end the process."""
    encoder, path = FeatureEncoder(3, ngf=4, n_downsample=2), tmp_path / "styles.safetensors"
    StyleBook(torch.rand(4, N_CLASSES, 3), fingerprint(encoder)).save(path)
    found = StyleBook.load(path, encoder, N_CLASSES)
    os.truncate(path, 0)
    assert found.vectors.sum() > 0


def of_zeros(kind: str, metadata: str) -> bytes:
    """A file as other programs may write it: vectors of any kind of number, any metadata."""
    n_bytes = {"F32": 240, "F4": 30}[kind]
    header = (f'{{"__metadata__": {metadata}, "vectors": {{"dtype": "{kind}", "shape": [4, {N_CLASSES}, 3], '
              f'"data_offsets": [0, {n_bytes}]}}}}').encode()
    return len(header).to_bytes(8, "little") + header + bytes(n_bytes)


@pytest.mark.parametrize(("content", "message"), [
    (None, "is missing; fit them"),
    (b"{}", "cannot be read"),
    (of_zeros("F32", "null"), "other weights"),
    (of_zeros("F4", "{}"), r"(cannot be read|holds no looks) .*: fit them again"),
    ({"vector": torch.rand(4, N_CLASSES, 3)}, "not vectors"),
    ({"vectors": torch.rand(4, N_CLASSES, 3), "more": torch.rand(1)}, "not vectors"),
    ({"vectors": torch.rand(N_CLASSES, 3)}, "holds no looks"),
    ({"vectors": torch.rand(0, N_CLASSES, 3)}, "holds no looks"),
    ({"vectors": torch.rand(4, N_CLASSES, 3).double()}, "holds no looks"),
    ({"vectors": torch.full((4, N_CLASSES, 3), torch.nan)}, "holds no looks"),
    ({"vectors": torch.rand(4, N_CLASSES, 2)}, "this model has 5 classes and 3 numbers"),
    ({"vectors": torch.rand(4, N_CLASSES + 1, 3)}, "looks of 6 classes"),
    ({"vectors": torch.rand(4, N_CLASSES, 3)}, "other weights"),
])
def test_files_that_are_no_book_of_this_model(tmp_path: Path, content: bytes | dict | None, message: str) -> None:
    path = tmp_path / "styles.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        save_file(content, path)
        assert load_file(path)
    with pytest.raises(UserError, match=message):
        StyleBook.load(path, FeatureEncoder(3, ngf=4, n_downsample=2), N_CLASSES)
