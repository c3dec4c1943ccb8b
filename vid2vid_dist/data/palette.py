"""The colours that label ids are shown in (spec: inference 4)."""

import numpy as np

CITYSCAPES_IDS = np.array(
    [
        (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (111, 74, 0),
        (81, 0, 81), (128, 64, 128), (244, 35, 232), (250, 170, 160), (230, 150, 140), (70, 70, 70),
        (102, 102, 156), (190, 153, 153), (180, 165, 180), (150, 100, 100), (150, 120, 90), (153, 153, 153),
        (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180),
        (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 0, 90),
        (0, 0, 110), (0, 80, 100), (0, 0, 230), (119, 11, 32), (0, 0, 142),
    ],
    np.uint8,
)  # fmt: skip

CITYSCAPES_TRAIN_IDS = np.array(
    [
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230),
        (119, 11, 32), (0, 0, 0),
    ],
    np.uint8,
)  # fmt: skip


def label_colors(n: int) -> np.ndarray:
    """The colours `(n, 3)` uint8 of n label classes: Cityscapes' for 35 and 20, else PASCAL's."""
    if n == len(CITYSCAPES_IDS):
        return CITYSCAPES_IDS
    if n == len(CITYSCAPES_TRAIN_IDS):
        return CITYSCAPES_TRAIN_IDS
    colors = np.zeros((n, 3), np.uint8)
    for j in range(7):
        for channel in range(3):
            bit = (np.arange(n) >> (3 * j + channel)) & 1
            colors[:, channel] |= (bit << (7 - j)).astype(np.uint8)
    return colors
