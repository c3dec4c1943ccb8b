"""Pictures: truncation, label and flow colours, tiles."""

import cv2
import numpy as np
import torch

from vid2vid_dist.monitor.pictures import (
    colorize_labels,
    flow_pictures,
    flow_scale,
    image_pictures,
    reduced,
    tile,
    unit_pictures,
)


def test_images_are_truncated_and_clipped() -> None:
    values = torch.tensor([-1.5, -1.0, 0.0, 0.9999, 1.0, 3.0])
    pixels = image_pictures(values.expand(2, 3, 1, 6))
    assert pixels.shape == (2, 1, 6, 3)
    assert pixels[1, 0, :, 2].tolist() == [0, 0, 127, 254, 255, 255]  # 0 is 127.5 before truncation


def test_an_image_shows_three_channels() -> None:
    image = torch.stack([torch.full((2, 2), v) for v in (-1.0, 0.0, 1.0, 0.5)])[None]
    assert image_pictures(image)[0, 0, 0].tolist() == [0, 127, 255]
    assert image_pictures(image[:, 3:])[0, 0, 0].tolist() == [191, 191, 191]


def test_maps_become_grey() -> None:
    maps = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
    assert unit_pictures(maps)[0, 0].tolist() == [[0] * 3, [127] * 3, [255] * 3]


def test_label_colours() -> None:
    ids = torch.tensor([0, 7, 26, 34, 35, -1, 255]).reshape(1, 1, 1, 7).float()
    black = [0, 0, 0]
    expected = [black, [128, 64, 128], [0, 0, 142], [0, 0, 142], black, black, black]
    assert colorize_labels(ids, 35)[0, 0].tolist() == expected
    train_ids = torch.tensor([0, 18, 19]).reshape(1, 1, 1, 3)
    assert colorize_labels(train_ids, 20)[0, 0].tolist() == [[128, 64, 128], [119, 11, 32], black]
    few = torch.tensor([0, 1, 2, 4, 7, 8]).reshape(1, 1, 1, 6)
    assert colorize_labels(few, 9)[0, 0].tolist() == [
        black, [128, 0, 0], [0, 128, 0], [0, 0, 128], [128, 128, 128], [64, 0, 0]]


def test_flow_directions() -> None:
    """Right is red, down is 90 degrees of hue further, no motion is black."""
    flow = torch.tensor([[4.0, 0], [0, 4], [-4, 0], [2, 0], [0, 0]]).T.reshape(1, 2, 1, 5)
    expected = [[255, 0, 0], [127, 255, 0], [0, 255, 255], [127, 0, 0], [0, 0, 0]]
    assert flow_pictures(flow, flow_scale(flow))[0, 0].tolist() == expected


def test_flow_colours_are_those_of_opencv() -> None:
    flow = torch.randn(1, 2, 40, 60, generator=torch.Generator().manual_seed(0)) * 3
    scale = flow_scale(flow)
    magnitude, angle = cv2.cartToPolar(flow[0, 0].numpy(), flow[0, 1].numpy())
    hsv = np.stack([angle * 90 / np.pi, np.full_like(angle, 255), magnitude / scale * 255], axis=-1)
    expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    difference = np.abs(flow_pictures(flow, scale)[0].astype(int) - expected)
    assert difference.max() <= 10  # OpenCV rounds the hue to two degrees


def test_one_scale_for_several_flows() -> None:
    slow, fast = torch.full((2, 2, 4, 4), 3.0), torch.full((2, 2, 4, 4), 4.0)
    assert flow_scale(slow, None, fast) == float(fast[0, :, 0, 0].norm())
    assert flow_pictures(slow, flow_scale(slow, fast)).max() == 255 * 3 // 4
    assert flow_pictures(torch.zeros(1, 2, 4, 4), flow_scale(torch.zeros(1, 2, 4, 4))).max() == 0


def test_tiles() -> None:
    panels = [np.full((2, 4, 6, 3), i, np.uint8) for i in range(1, 6)]
    assert tile(panels[:3]).shape == (2, 4, 18, 3)
    five = tile(panels)
    assert five.shape == (2, 8, 18, 3)
    assert [int(five[0, y, x, 0]) for y in (0, 4) for x in (0, 6, 12)] == [1, 2, 3, 4, 5, 0]


def test_reduction_by_a_whole_factor() -> None:
    frames = np.zeros((1, 8, 30, 3), np.uint8)
    frames[:, :, ::2] = 200
    assert reduced(frames, panel_width=10, limit=10).shape == (1, 8, 30, 3)
    small = reduced(frames, panel_width=10, limit=6)
    assert small.shape == (1, 4, 15, 3)
    assert (small == 100).all()
