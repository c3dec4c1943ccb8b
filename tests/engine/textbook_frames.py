"""Which frames discriminators judge together, and where in them, as a textbook has it (spec: losses 3.5 and 5).

Parts of `textbook_step`.
"""

from torch import Tensor

from vid2vid_dist.config.schema import DiscriminatorConfig


def temporal_groups(disc: DiscriminatorConfig, scale: int, new: range) -> list[list[int]]:
    """The frames that a temporal discriminator judges together, by number: n_frames_D of every step-th frame.

    Dense groups end at the newest frame and at every n_frames_D-th before it, so long as that is a new one. Sparse
    ones are the multiples of the step in a row, without overlap; n_frames_D - 1 of the frames before may join them, and
    what is too much is left out at the old end.
    """
    size, step = disc.n_frames_D, disc.n_frames_D**scale
    if disc.sparse_D:
        joining = [t for t in new if t % step == 0]
        row = [*range(0, new.start, step)][-(size - 1):] + joining if joining else []
        return [row[i:i + size] for i in range(len(row) % size, len(row), size)]
    span = step * (size - 1)
    return [[*range(last - span, last + 1, step)] for last in new[::-1][::size] if last - span >= 0]


def face_box(labels: Tensor, side: int, marked_by_pose: bool) -> tuple[slice, slice] | None:
    """Rows and columns of one square around the faces in all frames (N, C, H, W) of body poses; None without a face.

    A face is the head among DensePose's parts, or, `marked_by_pose`, the colour (153, 0, 51) of OpenPose's neck.
    """
    red, green, blue = labels[:, 0], labels[:, 1], labels[:, 2]
    neck = (red > 0.19) & (red < 0.21) & (green < -0.99) & (blue > -0.61) & (blue < -0.59)
    places = (neck if marked_by_pose else blue > 0.9).any(dim=0).nonzero()
    if not len(places):
        return None
    (top, left), (bottom, right) = places.amin(dim=0).tolist(), places.amax(dim=0).tolist()

    def around(first: int, last: int, length: int) -> slice:
        centre = max(side // 2, min(length - 1 - side // 2, (first + last) // 2))
        return slice(centre - side // 2, centre + side // 2)

    return around(top, bottom, labels.shape[-2]), around(left, right, labels.shape[-1])
