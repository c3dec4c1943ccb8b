"""Encoding of labels and instances, pyramid and foreground mask."""

import pytest
import torch

from vid2vid_dist.errors import UserError
from vid2vid_dist.models.labels import (
    EncodedLabels,
    encode_labels,
    foreground_mask,
    instance_edges,
    label_pyramid,
    pyramid,
)


def test_labels_become_one_plane_per_class_with_the_edges_last() -> None:
    labels = torch.randint(0, 5, (2, 3, 1, 4, 6), dtype=torch.uint8)
    instances = torch.randint(0, 3, (2, 3, 1, 4, 6))
    encoded = encode_labels(labels, instances, label_nc=5, dtype=torch.float64).dense()
    assert encoded.shape == (2, 3, 6, 4, 6)
    assert encoded.dtype == torch.float64
    assert torch.equal(encoded[:, :, :5].argmax(dim=2, keepdim=True), labels.long())
    assert torch.equal(encoded[:, :, :5].sum(dim=2), torch.ones(2, 3, 4, 6))
    assert torch.equal(encoded[:, :, 5:], instance_edges(instances).double())


def test_image_input_is_passed_on_unchanged() -> None:
    images = torch.randn(1, 2, 6, 4, 4)
    assert torch.equal(encode_labels(images, None, label_nc=0).dense(), images)


def test_edges_mark_both_sides_of_a_border() -> None:
    ids = torch.tensor([[1, 1, 2, 2],
                        [1, 1, 2, 2],
                        [1, 1, 1, 1],
                        [3, 1, 1, 1]])
    edges = torch.tensor([[0, 1, 1, 0],
                          [0, 1, 1, 1],
                          [1, 0, 1, 1],
                          [1, 1, 0, 0]])
    assert torch.equal(instance_edges(ids).int(), edges.int())


def test_pyramid_leaves_padding_out_of_the_average() -> None:
    ramp = torch.arange(64.0).view(1, 1, 1, 8, 8)
    coarse, fine = pyramid(ramp, 2)
    assert torch.equal(fine, ramp)
    assert torch.allclose(coarse[0, 0, 0, 0], torch.tensor([4.5, 6.0, 8.0, 10.0]))


def test_pyramid_is_coarsest_first_and_frame_by_frame() -> None:
    frames = torch.randn(2, 3, 5, 8, 16)
    levels = pyramid(frames, 3)
    assert [level.shape[-2:] for level in levels] == [(2, 4), (4, 8), (8, 16)]
    assert torch.allclose(levels[0][:, 1:2], pyramid(frames[:, 1:2], 3)[0])


def test_pyramid_refuses_an_odd_level() -> None:
    with pytest.raises(UserError, match=r"12x8 cannot be halved 3 times.*divisible by 8"):
        pyramid(torch.zeros(1, 1, 1, 8, 12), 4)


def test_mask_is_the_clamped_share_of_several_classes() -> None:
    labels = torch.zeros(1, 2, 4, 1, 3)
    labels[0, -1, 1] = torch.tensor([0.25, 1.0, 0.0])
    labels[0, -1, 3] = torch.tensor([0.5, 1.0, 0.0])
    mask = foreground_mask(EncodedLabels(labels), (1, 3))
    assert torch.equal(mask, torch.tensor([0.75, 1.0, 0.0]).view(1, 1, 1, 3))


def test_mask_and_pyramid_of_ids_are_those_of_their_planes() -> None:
    labels = torch.randint(0, 5, (2, 3, 1, 8, 12), dtype=torch.uint8)
    encoded = encode_labels(labels, labels, label_nc=5)
    dense = EncodedLabels(encoded.dense())
    assert torch.equal(foreground_mask(encoded, (1, 3)), foreground_mask(dense, (1, 3)))
    for ours, expected in zip(label_pyramid(encoded, 3), pyramid(dense.planes, 3), strict=True):
        assert torch.equal(ours.dense(), expected)
