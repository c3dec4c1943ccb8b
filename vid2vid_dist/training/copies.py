"""What a checkpoint holds, copied out of the run in few operations."""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

BYTES_AT_A_TIME = 2**28  # of small tensors that are put side by side on the device


Buffers = dict[int, Tensor]
"""Host memory, pinned for copies from a GPU, that the copies of one file after the other lie in."""


def copied(tensors: dict[str, Tensor], buffers: Buffers | None = None) -> dict[str, Tensor]:
    """As safetensors wants them: contiguous, on the CPU, and none sharing elements with another or memory with the run.

    Parts of a flat tensor are copied as one, others are put side by side first. From a GPU they are there when all is
    done that was queued (`Mark`). Memory is taken from `buffers` where those of earlier copies fit: what was copied
    before is then gone.
    """
    buffers = {} if buffers is None else buffers
    found: dict[str, Tensor] = {}
    for number, (names, parts) in enumerate(_beside_each_other(tensors)):
        first, sizes = parts[0], [tensors[name].numel() for name in names]
        host = buffers.get(number)
        if host is None or (len(host), host.dtype) != (sum(sizes), first.dtype):
            host = torch.empty(sum(sizes), dtype=first.dtype, device="cpu", pin_memory=first.is_cuda)
            buffers[number] = host
        if first.is_cuda:
            host.copy_(first if len(parts) == 1 else torch.cat(parts), non_blocking=True)
        else:
            torch.cat(parts, out=host)
        found |= {name: x.view(tensors[name].shape) for name, x in zip(names, host.split(sizes), strict=True)}
    return {name: found[name] for name in tensors}


def at_rest(module: nn.Module) -> dict[str, Tensor]:
    """A module's state, which only updates of its weights change: of its statistics a copy on the device."""
    state, buffers = module.state_dict(), dict(module.named_buffers())
    now = {name: torch.empty_like(x) for name, x in state.items() if name in buffers}
    if now:
        torch._foreach_copy_(list(now.values()), [state[name] for name in now])
    return state | now


def _beside_each_other(tensors: dict[str, Tensor]) -> Iterator[tuple[list[str], list[Tensor]]]:
    """Names of tensors, and their elements one after the other: of all parts of a flat tensor, or of small ones."""
    by_storage: dict[tuple[int, torch.dtype], list[str]] = defaultdict(list)
    for name, x in tensors.items():
        by_storage[x.untyped_storage()._cdata, x.dtype].append(name)
    others: dict[torch.dtype, list[str]] = defaultdict(list)
    for (_, dtype), names in by_storage.items():
        names.sort(key=lambda name: tensors[name].storage_offset())
        parts = [tensors[name].detach() for name in names]
        starts = [x.storage_offset() for x in parts]
        ends = [start + x.numel() for start, x in zip(starts, parts, strict=True)]
        if len(parts) > 1 and all(x.is_contiguous() for x in parts) and starts[1:] == ends[:-1]:
            yield names, [parts[0].as_strided((ends[-1] - starts[0],), (1,))]
        else:
            others[dtype] += names
    for names in others.values():
        while names:
            now, n_bytes = [names.pop()], 0
            while names and (n_bytes := n_bytes + tensors[names[-1]].nbytes) < BYTES_AT_A_TIME:
                now.append(names.pop())
            yield now, [tensors[name].detach().flatten() for name in now]
