"""Looks to choose from after training: clusters of what the feature encoder saw, for every class.

    styles.safetensors   vectors (K, label_nc, features) float32; metadata: the encoder that they belong to

A look is one vector per class, the same in every frame: that is what keeps it steady.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.columns import MAX_FRAME_BYTES
from vid2vid_dist.data.geometry import MIDDLE, clip_geometry
from vid2vid_dist.data.images import read_ids, read_rgb, to_float
from vid2vid_dist.data.tasks.registry import task_of
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import LoadedGenerator
from vid2vid_dist.models.encoder import FeatureEncoder
from vid2vid_dist.models.regions import region_means
from vid2vid_dist.models.weights import metadata_of, save_tensors
from vid2vid_dist.untrusted import read_bytes, reading, shown

FILE = "styles.safetensors"
MAX_BYTES = 2**26


@dataclass(frozen=True)
class StyleBook:
    """K looks: `vectors` (K, n_classes, n_features) in [-1, 1], and the encoder that they were fitted to."""

    vectors: Tensor
    encoder: str

    def save(self, path: Path) -> None:
        save_tensors({"vectors": self.vectors.float().contiguous()}, path, metadata={"encoder": self.encoder})

    @classmethod
    def load(cls, path: Path, encoder: FeatureEncoder, n_classes: int) -> StyleBook:
        """Raises `UserError` for a file that is missing or damaged, and for looks of another encoder or labels."""
        fix = "fit them again (python -m vid2vid_dist fit-styles RUN)"
        if not path.is_file():
            raise UserError(f"no looks to choose from: {path} is missing; fit them (python -m vid2vid_dist fit-styles "
                            "RUN)")
        with reading(path, fix):  # the library raises whatever there is for kinds of number that PyTorch lacks
            content = read_bytes(path, MAX_BYTES)
            tensors, metadata = load(content), metadata_of(content)
        if list(tensors) != ["vectors"]:
            raise UserError(f"{path} holds no looks (it holds {shown(list(tensors))}, not vectors): {fix}")
        vectors = tensors["vectors"]
        if vectors.dtype != torch.float32 or vectors.dim() != 3 or not len(vectors) or not vectors.isfinite().all():
            raise UserError(f"{path} holds no looks (vectors {tuple(vectors.shape)} of {vectors.dtype}): {fix}")
        if vectors.shape[1:] != (n_classes, encoder.n_features):
            raise UserError(f"{path} holds looks of {vectors.shape[1]} classes in {vectors.shape[2]} numbers; this "
                            f"model has {n_classes} classes and {encoder.n_features} numbers: {fix}")
        if metadata.get("encoder") != fingerprint(encoder):
            raise UserError(f"{path} was fitted to other weights than these: {fix}")
        return cls(vectors, metadata["encoder"])


def fingerprint(encoder: FeatureEncoder) -> str:
    """Another one for other weights; the number format that they are stored in plays no part."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(encoder.named_parameters()):
        digest.update(name.encode() + parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Style:
    """How every frame of an output is to look: one vector per class (n_classes, n_features), and what it is called."""

    name: str
    vectors: Tensor


@dataclass(frozen=True)
class StyleOptions:
    """Which looks are wanted: numbers of the model's book, and that of a picture, given with its label map."""

    numbers: tuple[int, ...] = ()
    image: Path | None = None
    labels: Path | None = None


NO_STYLE = StyleOptions()


def book_of(loaded: LoadedGenerator) -> StyleBook | None:
    """The looks of a model with styles; raises `UserError` like `StyleBook.load`."""
    if loaded.generator.netE is None:
        return None
    return StyleBook.load(loaded.run_dir / FILE, loaded.generator.netE, count_classes(loaded.config.data))


def count_classes(data: DataConfig) -> int:
    """Classes that a look has a vector for."""
    parts = task_of(data).parts
    return parts.count if parts else data.label_nc


def classes_of(frames: Frames) -> Tensor:
    """(F, 1, H, W) integers: what a look has a vector for, classes of a label map or parts of a face."""
    if frames.labels.shape[1] == 1 or frames.instances is None:
        return frames.labels
    return frames.instances


def choose_styles(options: StyleOptions, loaded: LoadedGenerator) -> list[Style]:
    """The wanted looks; of a model with styles the first of its book if nothing is wanted, of others none.

    Raises `UserError` for a model without styles or looks, for a number that is not in its book, and for files that
    are no picture with its label map.
    """
    encoder, data = loaded.generator.netE, loaded.config.data
    if (options.image is None) != (options.labels is None):
        raise UserError("--style-image and --style-labels go together: a picture and its label map")
    if encoder is None:
        if options != NO_STYLE:
            raise UserError("--style and --style-image need a model that was trained with generator.style_nc > 0")
        return []
    book = book_of(loaded)
    assert book is not None
    for number in options.numbers:
        if not 0 <= number < len(book.vectors):
            raise UserError(f"--style {number}: {loaded.run_dir / FILE} holds looks 0..{len(book.vectors) - 1}")
    if options.image is not None and options.labels is not None:
        image, labels = _read_pair(options.image, options.labels, data)
        of_image = [Style(f"look of {options.image.stem}", look_of(encoder, image, labels, book))]
    else:
        of_image = []
    numbers = options.numbers or (() if of_image else (0,))
    return [*(Style(f"style {number}", book.vectors[number]) for number in numbers), *of_image]


@torch.no_grad()
def look_of(encoder: FeatureEncoder, image: Tensor, labels: Tensor, book: StyleBook) -> Tensor:
    """The look (n_classes, n_features) of a frame: `image` (3, H, W) in [-1, 1], `labels` (1, H, W) of integers.

    Classes that it does not show are as in the look of the book that is nearest.
    """
    nearest, classes, means = _nearest(encoder, image, labels, book)
    look = nearest.clone()
    look[classes] = means
    return look


@torch.no_grad()
def nearest_look(encoder: FeatureEncoder, image: Tensor, labels: Tensor, book: StyleBook) -> Tensor:
    """The look (n_classes, n_features) of the book that is nearest to a frame, by the classes that this shows;
    arguments as above."""
    return _nearest(encoder, image, labels, book)[0]


def _nearest(encoder: FeatureEncoder, image: Tensor, labels: Tensor, book: StyleBook) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest look of the book, the n classes of a frame, and what the encoder sees of them (n, n_features)."""
    found = region_means(encoder(image[None].to(next(encoder.parameters())))[0], labels[0])
    means, classes = found.means.float().cpu(), found.ids.long().cpu()
    distance = (book.vectors[:, classes] - means).square().sum(dim=(1, 2))
    return book.vectors[int(distance.argmin())], classes, means


def _read_pair(image: Path, labels: Path, data: DataConfig) -> tuple[Tensor, Tensor]:
    """A picture (3, H, W) in [-1, 1] and its label map (1, H, W), brought to the size of the model's frames."""
    if not data.label_nc:
        raise UserError("--style-image: a face has no label map: choose a look by its number (--style)")
    pictures = {}
    for name, path, read in (("images", image, read_rgb), ("labels", labels, read_ids)):
        with reading(path, "give a picture and its label map"):
            content = read_bytes(path, MAX_FRAME_BYTES)
        pictures[name] = read(content, str(path))
    size = pictures["images"].size
    if pictures["labels"].size != size:
        raise UserError(f"{labels} has {pictures['labels'].size} pixels, {image} {size}: give both of one "
                        "frame")
    geometry = clip_geometry(size, data, MIDDLE, may_flip=False)
    pixels, ids = (torch.from_numpy(geometry.apply(pictures[name]).copy()) for name in ("images", "labels"))
    if ids.max() >= data.label_nc:
        raise UserError(f"{labels}: label id {ids.max()} is not below data.label_nc={data.label_nc}: give "
                        "label maps of the model's classes")
    return to_float(pixels, torch.float32), ids
