"""Comparison of stored tensors with ours.

Ours are computed in float64, the stored ones in float32 by the original, so an honest difference is the
original's own float32 error. Each case lists it per tensor: the tolerance is twice that, and at least
`FLOOR`. A jump of the warp gradient is thereby allowed exactly where the original saw one.
"""

from typing import Any, TypeVar

from torch import Tensor, nn

from tools.parity.case import Check

FLOOR = 1e-6
N = TypeVar("N", bound=nn.Module)


def compare(stored: dict[str, Tensor], ours: dict[str, Tensor], meta: dict[str, Any]) -> list[Check]:
    """One check per stored tensor; a `KeyError` names a stored tensor that we have not computed."""
    checks = []
    for full_name, expected in stored.items():
        name, _, part = full_name.partition("@")
        # A thinned tensor may lack its largest value, which the measured errors are relative to.
        largest = float(ours[name].detach().abs().max())
        error = relative_error(thin(ours[name], part), expected, largest)
        tolerance = max(FLOOR, 2 * float32_error(name, meta["tolerance_measured"]))
        checks.append(Check(full_name, error, tolerance))
    return checks


def float32_error(name: str, measured: dict[str, Any]) -> float:
    """The original's largest difference between float32 and float64, relative to the largest value."""
    per_name = measured.get("f32_vs_f64_per_key", {})
    per_name |= measured.get("grad_f32_vs_f64_[max,ref,frac_outliers]", {})
    if name not in per_name:
        return measured["f32_vs_f64"]["worst_rel_to_max"]
    difference, largest, _ = per_name[name]
    return difference / (largest or 1.0)


def relative_error(ours: Tensor, stored: Tensor, largest: float) -> float:
    """Largest difference as a fraction of `largest`; absolute where that is 0."""
    ours, stored = ours.detach().double().flatten(), stored.double().flatten()
    if ours.shape != stored.shape:
        return float("inf")
    return float((ours - stored).abs().max()) / (largest or 1.0)


def thin(tensor: Tensor, part: str) -> Tensor:
    """The part that is stored: "s2" every second row and column, "flat_stride3" every third value."""
    if not part:
        return tensor
    if part == "s2":
        return tensor[..., ::2, ::2]
    assert part.startswith("flat_stride"), part
    return tensor.flatten()[::int(part.removeprefix("flat_stride"))]


def starting_with(tensors: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}


def load_exactly(network: N, tensors: dict[str, Tensor], prefix: str = "sd.") -> N:
    """`network` in float64 with the stored weights under `prefix`; names and shapes must all match."""
    stored = starting_with(tensors, prefix)
    network.double().load_state_dict({name.removeprefix(prefix): tensor for name, tensor in stored.items()})
    return network
