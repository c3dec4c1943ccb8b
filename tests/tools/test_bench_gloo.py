"""The fit of the network model, and the samples that it is made from."""

import pytest

from tools.bench_gloo import CHECKED_RANKS, MESSAGES, REDUCTIONS, WORK, Sample, fit, modelled, on_ranks, report


@pytest.mark.parametrize("kind", [MESSAGES, REDUCTIONS, WORK])
def test_what_follows_the_model_is_fitted_exactly(kind: str) -> None:
    samples = [Sample(kind, n, size, modelled(kind, n, size, 2e-4, 1.5e9))
               for n in (2, 3, 4) for size in (2**12, 2**22)]
    found = fit(kind, samples)
    assert (found.latency, found.bandwidth) == pytest.approx((2e-4, 1.5e9))
    assert found.seconds(8, 2**20) == pytest.approx(modelled(kind, 8, 2**20, 2e-4, 1.5e9))


@pytest.mark.long
def test_real_ranks_are_measured_and_compared() -> None:
    samples = on_ranks(2, (2**12, 2**20))
    assert {(s.kind, s.n_bytes) for s in samples} == {
        (kind, size) for kind in (MESSAGES, REDUCTIONS, WORK) for size in (2**12, 2**20)}
    assert all(s.seconds > 0 for s in samples)
    lines = list(report(samples, [Sample(MESSAGES, CHECKED_RANKS, 2**20, 1.0)]))
    assert lines[-2].startswith(f"| {MESSAGES} |")
    assert "nothing; 0 of 1" in lines[-1]  # a second is far more than loopback takes
