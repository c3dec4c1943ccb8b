"""Distances of sets of features against other ways to compute them, and the figures that are made of them."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from tests.inference.judging_networks import VideoNetwork
from vid2vid_dist.inference.distances import frechet_distance, kernel_distance
from vid2vid_dist.inference.figures import SetFigure
from vid2vid_dist.inference.quality import Judges, set_qualities

LABELS = torch.zeros(1, 1, 8, 16, dtype=torch.uint8)


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_scipy(real: Tensor, fake: Tensor) -> float:
    """The formula as it is written."""
    covariances = [np.cov(x.numpy(), rowvar=False) for x in (real, fake)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    return float((real.mean(0) - fake.mean(0)).square().sum() + np.trace(sum(covariances) - 2 * np.real(root)))


@pytest.mark.parametrize(("n", "m", "d"), [(50, 80, 5), (60, 60, 20)])
def test_frechet_distance_is_the_formula(n: int, m: int, d: int) -> None:
    real, fake = draw(n, d), draw(m, d, seed=1) @ draw(d, d, seed=2) + 0.5
    assert frechet_distance(real, fake) == pytest.approx(by_scipy(real, fake), rel=1e-9)


def test_frechet_distance_of_gaussians() -> None:
    """Between N(m, C) and N(2 m + 3, 4 C): |m + 3|² + tr C; also of fewer samples than features."""
    for n, d in ((40, 4), (6, 30)):
        real = draw(n, d)
        expected = (real.mean(0) + 3).square().sum() + real.var(0).sum()
        assert frechet_distance(real, 2 * real + 3) == pytest.approx(float(expected), rel=1e-9)
        assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_the_double_sum() -> None:
    real, fake = draw(7, 3), draw(7, 3, seed=1) + 1

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 3 + 1) ** 3

    within = [sum(kernel(x, y) for x, y in itertools.permutations(xs, 2)) / (7 * 6) for xs in (real, fake)]
    across = sum(kernel(x, y) for x in real for y in fake) / 7**2
    found = kernel_distance(real.float(), fake.float())
    assert found.mean == pytest.approx(sum(within) - 2 * across, rel=1e-5)
    assert (found.n_subsets, found.size, found.deviation) == (1, 7, 0.0)


def test_the_mean_over_subsets_is_that_of_everything() -> None:
    """As the estimate is unbiased; and every call draws the same subsets."""
    real, fake = draw(30, 4), draw(30, 4, seed=1) + 0.5
    found = kernel_distance(real, fake, n_subsets=1000, size=10)
    assert found.mean == pytest.approx(kernel_distance(real, fake).mean, abs=4 * found.deviation / 1000**0.5)
    assert kernel_distance(real, fake, n_subsets=1000, size=10) == found
    assert found.deviation > 0


def figures(judges: Judges, videos: list[list[tuple[Tensor, Tensor]]]) -> dict[str, SetFigure]:
    """Of videos of pairs, generated and real."""
    (quality,) = set_qualities(judges)
    for video in videos:
        quality.begin_video()
        for fake, real in video:
            quality.add(fake, real, LABELS)
    return quality.figures()


def colours(n: int, seed: int) -> list[Tensor]:
    """Frames of one 8-bit colour each, (1, 3, 8, 16) in [-1, 1]."""
    drawn = torch.randint(256, (n, 3, 1, 1), generator=torch.Generator().manual_seed(seed))
    return [(x / 127.5 - 1).expand(1, 3, 8, 16) for x in drawn]


def test_figures_of_frames_say_how_many_they_are() -> None:
    """Features that are the colour / 255."""
    judges = Judges(frames=lambda pixels: pixels.mean((2, 3)) / 255, frames_name="colours")
    fakes, reals = colours(6, 0), colours(6, 1)
    real, fake = (torch.stack([(x[0, :, 0, 0] + 1) / 2 for x in frames]).double() for frames in (reals, fakes))
    found = figures(judges, [list(zip(fakes, reals, strict=True))])
    assert found["FID (colours)"].value == pytest.approx(by_scipy(real, fake), rel=1e-4)
    assert found["FID (colours)"].over == "6 frames, 16x8; 3 features"
    assert found["KID (colours)"].value == pytest.approx(kernel_distance(real, fake).mean, rel=1e-4)
    assert found["KID (colours)"].over == "6 frames, 16x8; one set"


def test_fvd_is_of_clips_within_a_video() -> None:
    """Of 24 and of 33 frames: two and three clips of 16, one every 8."""
    network = torch.jit.script(VideoNetwork())
    judges = Judges(clips=lambda clips: network(clips, rescale=True, resize=True, return_features=True))
    fakes, reals = [colours(n, n) for n in (24, 33)], [colours(n, n + 1) for n in (24, 33)]

    def clips(videos: list[list[Tensor]]) -> Tensor:
        means = [[(x[0, :, 0, 0].double() + 1) / 2 for x in video] for video in videos]
        return torch.stack([torch.stack(video[i : i + 16]).mean(0) for video in means
                            for i in range(0, len(video) - 15, 8)])

    found = figures(judges, [list(zip(*pair, strict=True)) for pair in zip(fakes, reals, strict=True)])
    assert found["FVD"].value == pytest.approx(by_scipy(clips(reals), clips(fakes)), rel=1e-4)
    assert found["FVD"].over == "5 clips of 16 frames, one every 8, 16x8"
    assert figures(judges, [list(zip(colours(16, 0), colours(16, 1), strict=True))]) == {}  # of one clip there is none
