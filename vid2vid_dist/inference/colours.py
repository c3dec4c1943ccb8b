"""How steady a look is, how far looks are apart, and what an edit changes: by the mean colours of the classes."""

from itertools import combinations

import torch
from torch import Tensor

from vid2vid_dist.models.regions import region_means


class ColourMeter:
    """Compares the outputs of one video, frame by frame. Colours have a range of 1."""

    def __init__(self) -> None:
        self._first: dict[int, Tensor] = {}  # by class, when it was first seen: (outputs, 3)

    def step(self, labels: Tensor, outputs: Tensor) -> dict[str, float]:
        """Figures of a frame: `labels` (1, H, W) of integers, `outputs` (N, 3, H, W) in [-1, 1] made from them.

        "colour drift": by how much the mean colour of a class differs from the one that it had when it was first
        seen, in the mean over classes by their areas and over outputs; content that comes and goes is part of it.
        "between styles": by how much it differs from output to output.
        """
        shown = (outputs.float() + 1) / 2
        found = region_means(shown.flatten(0, 1), labels[0])
        colours = found.means.unflatten(1, shown.shape[:2])  # (classes, outputs, 3)
        classes, shares = found.ids.tolist(), found.areas / found.areas.sum()
        known = [i for i, number in enumerate(classes) if number in self._first]
        figures = {}
        if known:
            before = torch.stack([self._first[classes[i]] for i in known])
            moved = (colours[known] - before).abs().mean(dim=(1, 2))
            figures["colour drift"] = float((moved * shares[known]).sum() / shares[known].sum())
        self._first = dict(zip(classes, colours, strict=True)) | self._first
        pairs = list(combinations(range(len(outputs)), 2))
        if pairs:
            apart = torch.stack([(colours[:, a] - colours[:, b]).abs().mean(dim=1) for a, b in pairs]).mean(dim=0)
            figures["between styles"] = float((apart * shares).sum())
        return figures


def edit_figures(changed: Tensor, plain: Tensor, edited: Tensor) -> dict[str, float]:
    """By how much an edit changes the pictures (N, 3, H, W) in [-1, 1], in a colour range of 1: where the labels are
    `changed` (1, H, W) bool, and elsewhere."""
    difference = (edited.float() - plain.float()).abs().mean(dim=(0, 1)) / 2
    parts = {"change where edited": changed[0], "change elsewhere": ~changed[0]}
    return {name: float(difference[part].mean()) for name, part in parts.items() if part.any()}
