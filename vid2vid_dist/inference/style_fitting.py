"""Fits looks to what the feature encoder sees in real frames."""

import heapq
from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.vq import kmeans, vq
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.decoding import Decoders
from vid2vid_dist.data.images import to_float
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import LoadedGenerator
from vid2vid_dist.inference.styles import StyleBook, classes_of, count_classes, fingerprint
from vid2vid_dist.models.encoder import FeatureEncoder
from vid2vid_dist.models.regions import region_means

PER_CLASS = 2048  # regions that are kept of each class, the largest ones


def fit_styles(loaded: LoadedGenerator, n_styles: int, n_frames: int, device: torch.device) -> tuple[StyleBook, int]:
    """Looks of the videos that a generator was trained on, from at most `n_frames` of their frames, spread evenly;
    and how many these were. Raises `UserError` for a model without styles and for shards that are not there."""
    cfg, encoder = loaded.config, loaded.generator.netE
    if encoder is None:
        raise UserError(f"{loaded.checkpoint} was trained without styles: set generator.style_nc, and train")
    source = ClipSource.of(cfg)
    clips = [source.whole(number) for number in range(source.n_videos)]
    everything = [(clip, t) for clip in clips for t in range(clip.n_frames)]
    chosen = everything[:: -(-len(everything) // n_frames)]
    fitter = StyleFitter(encoder.to(device, torch.float32), count_classes(cfg.data))
    decoders = Decoders(source, cfg.data.workers, source.task.in_python)
    for frames in decoders.stream(Request.span(clip, t, 1) for clip, t in chosen):
        assert frames.images is not None
        regions = frames.labels if frames.instances is None else frames.instances
        fitter.add(to_float(frames.images[0], torch.float32).to(device), classes_of(frames)[0].to(device),
                   regions[0].to(device))
    return fitter.fit(n_styles), len(chosen)


class _Region(NamedTuple):
    """One region of a frame; the order of a heap is that of area and running number."""

    area: int
    number: int
    frame: int
    vector: np.ndarray


class StyleFitter:
    """Takes up frames one by one, keeps a bounded number of regions, and makes looks of them."""

    def __init__(self, encoder: FeatureEncoder, n_classes: int, per_class: int = PER_CLASS) -> None:
        self._encoder, self._per_class = encoder, per_class
        self._regions: list[list[_Region]] = [[] for _ in range(n_classes)]
        self._n_regions = self._n_frames = 0

    @torch.no_grad()
    def add(self, image: Tensor, labels: Tensor, regions: Tensor) -> None:
        """A frame: `image` (3, H, W) in [-1, 1], `labels` and `regions` (1, H, W) of integers.

        A region that has several classes counts for one of them.
        """
        found = region_means(self._encoder(image[None])[0], regions[0])
        classes = labels.new_zeros(len(found.areas), dtype=torch.long)
        classes[found.of_pixel] = labels.flatten().long()
        for vector, area, number in zip(found.means.float().cpu().numpy(), found.areas.tolist(), classes.tolist(),
                                        strict=True):
            kept, region = self._regions[number], _Region(area, self._n_regions, self._n_frames, vector)
            if len(kept) < self._per_class:
                heapq.heappush(kept, region)
            else:
                heapq.heappushpop(kept, region)
            self._n_regions += 1
        self._n_frames += 1

    def fit(self, n_styles: int) -> StyleBook:
        """Cluster the regions of every class by themselves.

        Clusters that are seen in the same frames get the same number, so that a look hangs together: the trees of
        autumn under the sky of autumn. The class that covers most leads. A class that was never seen takes the mean
        of the others. Raises `UserError` without frames.
        """
        areas = [sum(region.area for region in regions) for regions in self._regions]
        if not any(areas):
            raise UserError("no frames in data.shards to fit looks to: give videos that have some")
        lead, leading = int(np.argmax(areas)), None
        vectors = np.full((n_styles, len(areas), self._encoder.n_features), np.nan, np.float32)
        for number in sorted(np.flatnonzero(areas).tolist(), key=lambda i: (i != lead, i)):
            regions = self._regions[number]
            observed = np.stack([region.vector for region in regions])
            centres, _ = kmeans(observed, min(n_styles, len(np.unique(observed, axis=0))), rng=0)
            seen = np.zeros((len(centres), self._n_frames))  # area of each cluster in each frame
            for cluster, region in zip(vq(observed, centres)[0], regions, strict=True):
                seen[cluster, region.frame] += region.area
            if leading is None:
                order = np.resize(np.arange(len(centres)), n_styles)
                leading = seen[order]
            else:
                order = _partners(leading, seen)
            vectors[:, number] = centres[order]
        mean = np.nanmean(vectors, axis=1, keepdims=True)
        return StyleBook(torch.from_numpy(np.where(np.isnan(vectors), mean, vectors)), fingerprint(self._encoder))


def _partners(leading: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """For each leading cluster (K, frames) the one of `seen` (k, frames) that shares its frames: each is taken once if
    there are enough, and all are taken."""
    def share(x: np.ndarray) -> np.ndarray:
        return x / np.maximum(x.sum(axis=1, keepdims=True), 1e-12)

    together = np.minimum(share(leading)[:, None], share(seen)[None]).sum(axis=2)
    order = together.argmax(axis=1)
    rows, columns = linear_sum_assignment(together, maximize=True)
    order[rows] = columns
    return order
