"""A video file -> raw folders for `vid2vid-shards`.

python -m vid2vid_dist prepare-video edges clip.mp4 data/mine --width 256        # edges -> video; needs no weights
python -m vid2vid_dist prepare-video labels clip.mp4 data/mine --width 512 --weights deeplabv3_resnet50_coco.pth
python -m vid2vid_dist prepare-video landmarks clip.mp4 data/face --weights shape_predictor_68_face_landmarks.dat
python -m vid2vid_dist prepare-video poses clip.mp4 data/pose --weights keypointrcnn_resnet50_fpn_coco.pth

The last frames become the test split. Frames in which nobody is found are left out, and a new sequence begins after
them: neighbours in a sequence are neighbours in time. Look at OUT/contact_sheet.png before training.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from vid2vid_dist.cli.arguments import count, positive
from vid2vid_dist.data.atomic import locked, written_aside
from vid2vid_dist.data.images import encode_png
from vid2vid_dist.data.palette import label_colors
from vid2vid_dist.data.tasks import face, pose
from vid2vid_dist.data.video_file import frames_of
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.segmentation import NETWORKS, load_segmentation
from vid2vid_dist.models.weights import load_published
from vid2vid_dist.toy.set import write_file

EDGES = ((40, 80), (100, 200))
"""Canny's thresholds of faint and of strong edges: labels 1 and 2."""
MIN_FRAMES = 3
"""A shorter sequence cannot be trained on."""
SHEET_FRAMES, SHEET_WIDTH = 4, 320
SURE = 0.9
"""Score from which a found person counts, and confidence of its points."""
BODY_25_OF_COCO = {
    0: (0,), 1: (5, 6), 2: (6,), 3: (8,), 4: (10,), 5: (5,), 6: (7,), 7: (9,), 8: (11, 12), 9: (12,), 10: (14,),
    11: (16,), 12: (11,), 13: (13,), 14: (15,), 15: (2,), 16: (1,), 17: (4,), 18: (3,),
}  # fmt: skip
"""OpenPose's point -> COCO's points whose middle it is; COCO has no feet."""


@dataclass(frozen=True)
class Found:
    """What is found in a frame: the folder's ending, the file's ending and content, and a picture (H, W, 3) of it."""

    ending: str
    suffix: str
    data: bytes
    picture: np.ndarray


Find = Callable[[np.ndarray], Found | None]
"""Of an RGB frame (H, W, 3) uint8; None where there is nothing to be found."""
Hit = tuple[np.ndarray, Found | None]
"""A frame and what was found in it."""


def scaled_frames(video: Path, width: int, every: int) -> Iterator[np.ndarray]:
    """Every n-th frame (H, W, 3) uint8, scaled to `width` (0 = as it is); raises UserError as `frames_of` does."""
    for frame in islice(frames_of(video), 0, None, every):
        image = Image.fromarray(frame)
        size = (width, round(width * image.height / image.width)) if width else image.size
        yield np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def find_edges(frame: np.ndarray) -> Found:
    """Label map of two kinds of edges, on a frame whose noise is smoothed."""
    grey = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    labels = np.zeros(grey.shape, np.uint8)
    for number, (low, high) in enumerate(EDGES, 1):
        labels[cv2.Canny(grey, low, high) > 0] = number
    return Found("A", ".png", encode_png(labels[None]), np.repeat(labels[..., None] * np.uint8(127), 3, axis=2))


def label_finder(weights: Path, name: str) -> Find:
    """Label maps by a segmentation network, whose classes are the ids."""
    network = load_segmentation(weights, name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    colors = label_colors(256)

    def find(frame: np.ndarray) -> Found:
        image = torch.from_numpy(frame.copy()).to(device).permute(2, 0, 1)[None] / 127.5 - 1
        labels = network(image)[0].byte().cpu().numpy()
        return Found("A", ".png", encode_png(labels[None]), colors[labels])

    return find


def landmark_finder(weights: Path) -> Find:
    """dlib's detector and its predictor of 68 landmarks, the first face of a frame as in the original."""
    try:
        import dlib
    except ImportError:
        raise UserError("landmarks need dlib: pip install 'vid2vid-dist[prepare]' (it compiles with cmake)") from None
    if not weights.is_file():
        raise UserError(f"no weights at {weights}: give dlib's shape_predictor_68_face_landmarks.dat with --weights")
    detector, predictor = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(weights))

    def find(frame: np.ndarray) -> Found | None:
        boxes = detector(frame, 1)
        if not boxes:
            return None
        shape = predictor(frame, boxes[0])
        points = np.array([(point.x, point.y) for point in shape.parts()], float)
        text = "".join(f"{x:.0f},{y:.0f}\n" for x, y in points)
        edges = face.draw_edges(face.completed(points), frame.shape[1::-1], distances=False)
        return Found("keypoints", ".txt", text.encode(), np.repeat(edges[0][..., None], 3, axis=2))

    return find


def pose_finder(weights: Path) -> Find:
    """torchvision's keypoint R-CNN: COCO's 17 points of every person, written as OpenPose writes a body."""
    try:
        from torchvision.models.detection import keypointrcnn_resnet50_fpn
    except (ImportError, RuntimeError) as error:
        raise UserError(f"poses need torchvision with its compiled operators ({error}): install the torchvision built "
                        "for this torch") from None
    network = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    load_published(network, str(weights), "--weights wants torchvision's keypointrcnn_resnet50_fpn")
    network.eval()

    def find(frame: np.ndarray) -> Found | None:
        with torch.no_grad():
            found = network([torch.from_numpy(frame.copy()).permute(2, 0, 1) / 255])[0]
        keep = found["scores"] > SURE
        people = [_body_25(points.numpy(), scores.numpy())
                  for points, scores in zip(found["keypoints"][keep], found["keypoints_scores"][keep], strict=True)]
        if not people:
            return None
        data = json.dumps({"version": 1.3, "people": people}).encode()
        parsed = pose.parse_people(data, "pose")
        drawn = pose.draw_people(parsed, frame.shape[1::-1], [pose.NOTHING_DROPPED] * len(parsed), 0.0, False)
        return Found("openpose", ".json", data, drawn)

    return find


def _body_25(points: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """COCO's points (17, 3) and their scores as a person of OpenPose; the neck and the hip's middle lie between."""
    sure = np.where(scores > 0, SURE, 0.0)
    body = np.zeros((25, 3))
    for ours, theirs in BODY_25_OF_COCO.items():
        body[ours] = *points[list(theirs), :2].mean(axis=0), sure[list(theirs)].min()
    return {"pose_keypoints_2d": [round(float(v), 2) for v in body.flatten()]}


def write(video: Path, out: Path, find: Find, frames: Iterable[np.ndarray], n_test: int) -> str:
    """Write the raw folders and the contact sheet; returns one line to print.

    `out` is complete or absent. Frames are written as they come: some `n_test` are in memory at a time.
    """
    n_frames = n_missing = 0

    def looked_at() -> Iterator[Hit]:
        nonlocal n_frames, n_missing
        for frame in frames:
            hit = find(frame)
            n_frames, n_missing = n_frames + 1, n_missing + (hit is None)
            yield frame, hit

    sheet, last = _Sheet(), deque[Hit]()
    with locked(out), written_aside(out) as aside:
        n_train = _write_split(aside, "train", video.stem, all_but_last(looked_at(), n_test, last), sheet)
        n_written = _write_split(aside, "test", video.stem, last)
        if not n_train:
            raise UserError(f"{video}: no {MIN_FRAMES} frames in a row to train on: of its {n_frames} frames the last "
                            f"{n_test} are for the test split (--test-frames), and nothing was found in {n_missing}")
        sheet.draw().save(aside / "contact_sheet.png")
    return (f"{out}: {n_train} + {n_written} frames of {n_frames}, nothing found in {n_missing}; "
            f"look at {out / 'contact_sheet.png'}")


def all_but_last(hits: Iterable[Hit], n: int, last: deque[Hit]) -> Iterator[Hit]:
    """All but the last n, which are in `last` afterwards."""
    for hit in hits:
        last.append(hit)
        if len(last) > n:
            yield last.popleft()


def sequences(hits: Iterable[Hit]) -> Iterator[Iterator[Hit]]:
    """Frames that follow each other and in which something was found; too few of them are left out."""
    for there, run in groupby(hits, key=lambda hit: hit[1] is not None):
        begin = list(islice(run, MIN_FRAMES)) if there else []
        if len(begin) == MIN_FRAMES:
            yield chain(begin, run)  # noqa: B031 - it goes on where islice ended


def _write_split(out: Path, split: str, stem: str, hits: Iterable[Hit], sheet: _Sheet | None = None) -> int:
    """Write the sequences of a split; returns the number of their frames."""
    count = 0
    for number, sequence in enumerate(sequences(hits)):
        for i, (frame, hit) in enumerate(sequence):
            assert hit is not None
            name = f"{stem}_{number:03d}/{i:06d}"
            images = "B" if hit.ending == "A" else "img"
            write_file(out, f"{split}_{images}", f"{name}.png", encode_png(frame.transpose(2, 0, 1)))
            write_file(out, f"{split}_{hit.ending}", f"{name}{hit.suffix}", hit.data)
            count += 1
            if sheet is not None:
                sheet.add(hit.picture, frame)
    return count


class _Sheet:
    """Some frames of a video, at even distances, each beside what was found in it, one below the other."""

    def __init__(self) -> None:
        self._pairs: list[np.ndarray] = []
        self._n_seen, self._every = 0, 1

    def add(self, picture: np.ndarray, frame: np.ndarray) -> None:
        if self._n_seen % self._every == 0:
            self._pairs.append(np.concatenate([picture, frame], axis=1))
        self._n_seen += 1
        if len(self._pairs) > 2 * SHEET_FRAMES:
            self._pairs, self._every = self._pairs[::2], 2 * self._every

    def draw(self) -> Image.Image:
        chosen = self._pairs[:: max(1, len(self._pairs) // SHEET_FRAMES)][:SHEET_FRAMES]
        height = round(2 * SHEET_WIDTH * chosen[0].shape[0] / chosen[0].shape[1])
        return Image.fromarray(np.concatenate([
            np.asarray(Image.fromarray(pair).resize((2 * SHEET_WIDTH, height), Image.Resampling.BICUBIC))
            for pair in chosen]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("edges", "labels", "landmarks", "poses"), help="what is found in every frame")
    parser.add_argument("video", type=Path, help="mp4 or whatever ffmpeg reads")
    parser.add_argument("out", type=Path, help="folder to write, for vid2vid-shards")
    parser.add_argument("--width", type=count, default=0, help="scale frames to this width in pixels (default: as is)")
    parser.add_argument("--every", type=positive, default=1, help="take every n-th frame")
    parser.add_argument("--test-frames", type=count, default=30, help="so many last frames become the test split")
    parser.add_argument("--weights", type=Path, help="weights of the finder of labels, landmarks or poses")
    parser.add_argument("--network", choices=NETWORKS, default=NETWORKS[0], help="that finds labels: torchvision's")
    args = parser.parse_args()
    if args.out.exists():
        raise UserError(f"{args.out} exists: remove it or choose another folder")
    if args.what != "edges" and args.weights is None:
        raise UserError(f"{args.what} need --weights; edges need none")
    find: Find = find_edges
    if args.what == "labels":
        find = label_finder(args.weights, args.network)
    elif args.what != "edges":
        find = (landmark_finder if args.what == "landmarks" else pose_finder)(args.weights)
    print(write(args.video, args.out, find, scaled_frames(args.video, args.width, args.every), args.test_frames))
