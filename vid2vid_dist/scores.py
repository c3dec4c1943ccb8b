"""How a discriminator's patch scores are spread: what shows whether it still has something to learn."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vid2vid_dist.losses import LayerOutputs

MIDDLE = {"ls": 0.5, "hinge": 0.0, "logistic": 0.0}  # between "generated" and "real", by loss.gan_mode
STEP = 0.25
OFFSETS = tuple(STEP * i for i in range(-6, 7))  # of the edges from the middle
AT_MIDDLE = OFFSETS.index(0.0)


def edges(mode: str) -> list[float]:
    """The scores at which fractions are taken, ascending."""
    return [MIDDLE[mode] + offset for offset in OFFSETS]


@torch.no_grad()
def spread(passes: Sequence[LayerOutputs], mode: str) -> Tensor:
    """Fractions, (edges,), of the patch scores at or above each edge; all patches of all scales count alike.

    Fractions instead of quantiles: they add up over passes, clips and ranks.
    """
    scores = torch.cat([scale[-1].detach().flatten() for outputs in passes for scale in outputs]).float()
    first = round(OFFSETS[0] / STEP)
    at = MIDDLE[mode] + STEP * torch.arange(first, first + len(OFFSETS), device=scores.device)  # no copy to the GPU
    return (scores >= at[:, None]).mean(dim=1, dtype=torch.float32)


class ScoreTally:
    """Sums spreads over the passes of an interval. Nothing is read back: the host would wait for the GPU."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None

    def add(self, of_real: Tensor, of_fake: Tensor, share: float) -> None:
        """A pass, with its part in the step."""
        pair = torch.stack([of_real, of_fake])
        weighted = share * torch.cat([pair, torch.ones_like(pair[:, :1])], dim=1)
        self._sum = weighted if self._sum is None else self._sum + weighted

    def take(self) -> Tensor | None:
        """(real and fake, edges + 1): the weighted sums since the last call, the sum of the weights last. None
        without passes."""
        taken, self._sum = self._sum, None
        return taken
