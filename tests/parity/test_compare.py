"""The arithmetic of the comparison itself."""

import pytest
import torch
from torch import nn

from tools.parity.compare import FLOOR, compare, load_exactly, relative_error, thin

META = {"tolerance_measured": {"f32_vs_f64": {"worst_rel_to_max": 1e-5},
                               "f32_vs_f64_per_key": {"a": [0.5, 100.0, 0.0], "b": [0.0, 0.0, 0.0]}}}


def test_tolerance_is_twice_the_measured_error_of_the_tensor() -> None:
    tensors = {name: torch.ones(4) for name in ("a", "b", "c")}
    checks = {check.what: check for check in compare(tensors, tensors, META)}
    assert checks["a"].tolerance == pytest.approx(2 * 0.5 / 100)
    assert checks["b"].tolerance == FLOOR
    assert checks["c"].tolerance == pytest.approx(2e-5)
    assert all(check.error == 0 for check in checks.values())


def test_error_is_relative_to_the_largest_value_of_the_whole_tensor() -> None:
    ours = torch.tensor([[1.0, 2.0], [3.0, 10.0]])  # the stored corner lacks the 10
    check, = compare({"a@s2": torch.tensor([[1.5]])}, {"a": ours}, META)
    assert check.error == pytest.approx(0.05)
    assert not check.ok


def test_another_shape_is_an_infinite_error() -> None:
    assert relative_error(torch.ones(3), torch.ones(4), 1.0) == float("inf")


def test_a_stored_tensor_that_we_do_not_compute_is_named() -> None:
    with pytest.raises(KeyError, match="missing"):
        compare({"missing": torch.ones(1)}, {}, META)


def test_thinning() -> None:
    grid = torch.arange(24).view(2, 3, 4)
    assert torch.equal(thin(grid, ""), grid)
    assert thin(grid, "s2").flatten().tolist() == [0, 2, 8, 10, 12, 14, 20, 22]
    assert thin(grid, "flat_stride10").tolist() == [0, 10, 20]


def test_weights_must_match_name_by_name() -> None:
    stored = {"sd.weight": torch.ones(3, 2).half(), "sd.bias": torch.zeros(3).half(), "in.x": torch.ones(1)}
    network = load_exactly(nn.Linear(2, 3), stored)
    assert network.weight.dtype == torch.float64
    with pytest.raises(RuntimeError, match="Missing key"):
        load_exactly(nn.Linear(2, 3), {"sd.weight": torch.ones(3, 2)})
