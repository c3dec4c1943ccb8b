"""A video file goes into a tar as it is, and into the index how each of its frames is found in it (`data.film`).

All of it is decoded, and then once more from each of its keyframes. Those that lead to the very same frames are where
decoding may begin; the others (of open groups, damaged ones) are not.
"""

import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from webdataset.writer import TarWriter

from vid2vid_dist.data.columns import FILM, MAX_FILM_BYTES, PICTURE
from vid2vid_dist.data.film import checksum, frames_from, is_film
from vid2vid_dist.data.geometry import Size
from vid2vid_dist.data.video_file import decoded, shown_size
from vid2vid_dist.errors import UserError


@dataclass(frozen=True)
class PackedFilms:
    """Of a video: (modalities, frames) FILM; by modality the ENTRY of all frames of a video file, and any picture of
    their size."""

    films: np.ndarray
    entries: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    pictures: dict[str, Image.Image] = field(default_factory=dict)


def pack_films(folder: str, files: Mapping[str, Sequence[Path]], tar: TarWriter) -> PackedFilms:
    """Write the video files among those of a video, whose members lie in `folder`; for each frame `files` has one of
    each modality. Raises UserError for one that has not so many frames."""
    n_frames = len(next(iter(files.values())))
    packed = PackedFilms(np.zeros((len(files), n_frames), FILM))
    packed.films["start"] = PICTURE
    for row, (modality, paths) in enumerate(files.items()):
        if is_film(path := paths[0]):
            found, size = frames_of_film(path)
            if len(found) != n_frames:
                raise UserError(f"{path} has {len(found)} frames, but {n_frames} files of another modality go "
                                "with it: a frame of all is needed")
            packed.films[row], packed.pictures[modality] = found, Image.new("RGB", size)
            member = tarfile.TarInfo(f"{folder}/video.{modality}{path.suffix.lower()}")
            member.size, member.mode = path.stat().st_size, 0o444
            if member.size > MAX_FILM_BYTES:
                raise UserError(f"{path} is larger than {MAX_FILM_BYTES} bytes: cut it into scenes")
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
                file.seek(0)
                tar.tarstream.addfile(member, file)
            offset = tar.tarstream.offset - (member.size + 511) // 512 * 512
            packed.entries[modality] = offset, int(digest, 16), member.size, 0
    return packed


def frames_of_film(path: Path) -> tuple[np.ndarray, Size]:
    """(frames,) FILM of a file, and the size of its frames. Raises UserError as `decoded` does."""
    found, size = [], (0, 0)
    for frame in decoded(path, told=True):
        found.append((frame.pts, frame.key_frame, checksum(frame)))
        size = shown_size(frame)
    stamps = [pts for pts, _, _ in found if pts is not None]
    films = np.zeros(len(found), FILM)
    films["crc"] = [crc for _, _, crc in found]
    if len(stamps) < len(found) or any(a >= b for a, b in pairwise(stamps)):  # no telling where one is after a jump
        return films, size
    films["pts"] = stamps
    keys = [i for i, (_, is_key, _) in enumerate(found) if is_key and i]
    for start, end in pairwise([*keys, len(found)]):
        try:
            again = [checksum(frame) for frame in islice(frames_from(path, films, start), end - start)]
        except UserError:
            continue
        if again == films["crc"][start:end].tolist():
            films["start"][start:end] = start
    return films, size
