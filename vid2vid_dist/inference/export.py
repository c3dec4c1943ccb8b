"""A generator to pass on: weights and configuration, nothing pickled, nothing of the training.

    OUT/generator.safetensors   float32 weights, the averaged ones if there are some
    OUT/config.yaml             the configuration
    OUT/styles.safetensors      the looks of a model with styles, if they have been fitted
    OUT/manifest.json           size and hash of weights and configuration
    OUT/export.json             where they come from, and the version and commit of the code that wrote them

`vid2vid-generate OUT --input DIR` and `run.load_pretrain=OUT` take it like a checkpoint.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from vid2vid_dist.config.load import save_config
from vid2vid_dist.data.atomic import locked, written_aside
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import TRAINED, LoadedGenerator
from vid2vid_dist.inference.one_frame import StepOptions, write_steps
from vid2vid_dist.inference.styles import FILE as STYLES
from vid2vid_dist.inference.styles import book_of
from vid2vid_dist.models.manifest import NAME as MANIFEST
from vid2vid_dist.models.manifest import entry_of, to_json
from vid2vid_dist.models.weights import save_tensors
from vid2vid_dist.version import code_version


@dataclass(frozen=True)
class Exported:
    """What was written. `rounded`: the checkpoint held the weights in less than float32."""

    folder: Path
    parameters: int
    n_bytes: int
    rounded: bool


def export(loaded: LoadedGenerator, out: Path, steps: StepOptions | None = None) -> Exported:
    """Write the generator to `out`, which appears as a whole, in place of an earlier export; with `steps` its programs
    of one frame beside it.

    Raises `UserError` when `out` holds something else or cannot be written, for looks that were fitted to other
    weights, and like `write_steps`.
    """
    if out.exists() and not (out / "export.json").is_file():
        raise UserError(f"{out} exists and is no export: choose another OUT")
    book = book_of(loaded) if (loaded.run_dir / STYLES).is_file() else None
    weights, rounded = _float32(loaded.generator.state_dict())
    source = {"checkpoint": loaded.checkpoint.name, "run": loaded.config.run.name,
              "weights": "averaged" if loaded.averaged else "trained",
              "number_format": "bfloat16, stored as float32" if rounded else "float32", **code_version()}
    try:
        with locked(out), written_aside(out) as aside:
            save_tensors(weights, aside / TRAINED, metadata=source)
            if book is not None:
                book.save(aside / STYLES)
            save_config(loaded.config, aside / "config.yaml")
            entries = {name: entry_of(aside / name) for name in ("config.yaml", TRAINED)}
            (aside / MANIFEST).write_text(json.dumps(to_json(entries), indent=1) + "\n")
            if steps is not None:
                write_steps(loaded, aside, steps)
            (aside / "export.json").write_text(json.dumps(source, indent=1) + "\n")
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {out} ({error}): free some space, check its permissions, or choose another OUT"
                        ) from None
    count = sum(parameter.numel() for parameter in loaded.generator.parameters())
    return Exported(out, count, (out / TRAINED).stat().st_size, rounded)


def _float32(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The weights in float32, contiguous, and whether some were narrower."""
    wide = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    rounded = any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in weights.values())
    return {name: tensor.contiguous() for name, tensor in wide.items()}, rounded
