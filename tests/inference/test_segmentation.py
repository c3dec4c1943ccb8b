"""What a network that reads colours sees, against counts by hand."""

import math

import pytest
import torch
from torch import Tensor

from tests.inference.judging_networks import COLOURS, ReadsColours
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.quality import Judges, set_qualities
from vid2vid_dist.inference.segmentation import CITYSCAPES, Confusion, SegmentationNetwork

ROAD, HOUSE, CAR, OTHER = 7, 11, 26, 0


def painted(classes: Tensor) -> Tensor:
    """A frame (1, 3, H, W) in [-1, 1] in the colours of its classes."""
    return (torch.tensor(COLOURS)[classes] * 2 - 1).permute(2, 0, 1)[None]


def test_figures_by_hand() -> None:
    """Of 64 pixels 32 are road, 16 houses, 8 a car, and 8 are not judged. The houses are painted as road."""
    labels = torch.tensor([ROAD] * 32 + [HOUSE] * 16 + [CAR] * 8 + [OTHER] * 8, dtype=torch.uint8).view(1, 1, 8, 8)
    real = torch.tensor([0] * 32 + [1] * 16 + [2] * 16).view(8, 8)
    fake = torch.tensor([0] * 48 + [2] * 16).view(8, 8)
    network = SegmentationNetwork(torch.jit.script(ReadsColours()))
    (quality,) = set_qualities(Judges(segmentation=network, segmentation_ids=(ROAD, HOUSE, CAR)))
    quality.begin_video()
    for _ in range(2):
        quality.add(painted(fake), painted(real), labels)
    figures = quality.figures()
    assert figures["mIoU"].value == pytest.approx((32 / 48 + 0 + 8 / 8) / 3)
    assert figures["pixel accuracy"].value == pytest.approx(40 / 56)
    assert figures["mIoU of the real"].value == figures["pixel accuracy of the real"].value == 1
    assert figures["mIoU"].over == "2 frames, 8x8; 3 classes, 112 pixels"
    assert (figures["mIoU"].better, figures["mIoU of the real"].better) == ("high", "")


def test_a_class_that_is_nowhere_does_not_count() -> None:
    seen = Confusion((ROAD, HOUSE, CAR))
    seen.add(torch.full((1, 2, 2), ROAD, dtype=torch.uint8), torch.zeros(1, 2, 2, dtype=torch.int64))
    assert seen.mean_iou() == 1
    nothing = Confusion(CITYSCAPES)
    nothing.add(torch.zeros(1, 2, 2, dtype=torch.uint8), torch.zeros(1, 2, 2, dtype=torch.int64))
    assert math.isnan(nothing.mean_iou())
    assert math.isnan(nothing.accuracy())


def test_scores_of_another_size_are_scaled_to_the_frame() -> None:
    class Coarse(ReadsColours):
        def forward(self, images: Tensor) -> dict[str, Tensor]:  # as torchvision's networks answer
            return {"out": super().forward(torch.nn.functional.avg_pool2d(images, 4))}

    classes = torch.tensor([[0, 1], [2, 0]]).repeat_interleave(16, 0).repeat_interleave(16, 1)
    seen = SegmentationNetwork(Coarse())(painted(classes))[0]
    assert seen.shape == classes.shape
    assert (seen == classes)[4:12, 4:12].all()
    assert (seen == classes).float().mean() > 0.8


def test_a_network_of_something_else() -> None:
    with pytest.raises(UserError, match=r"gives \(1, 5\) for a frame"):
        SegmentationNetwork(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5)))(torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize("ids", [(ROAD, HOUSE), (ROAD, HOUSE, CAR, OTHER)])
def test_as_many_labels_as_the_network_has_classes(ids: tuple[int, ...]) -> None:
    """Others would be compared with classes of another meaning."""
    (quality,) = set_qualities(Judges(segmentation=SegmentationNetwork(ReadsColours()), segmentation_ids=ids))
    quality.begin_video()
    labels = torch.full((1, 1, 2, 2), ROAD, dtype=torch.uint8)
    with pytest.raises(UserError, match=rf"has 3 classes, but {len(ids)} label ids .*--segmentation-ids"):
        quality.add(painted(torch.zeros(2, 2, dtype=torch.int64)), None, labels)
