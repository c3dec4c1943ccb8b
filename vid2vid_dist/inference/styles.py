"""Looks to choose from after training: clusters of what the feature encoder saw, for every class.

    styles.safetensors   vectors (K, label_nc, features) float32; metadata: the encoder that they belong to

A look is one vector per class, the same in every frame: that is what keeps it steady.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vid2vid_dist.errors import UserError
from vid2vid_dist.models.encoder import FeatureEncoder
from vid2vid_dist.untrusted import shown

FILE = "styles.safetensors"
MAX_BYTES = 2**26


@dataclass(frozen=True)
class StyleBook:
    """K looks: `vectors` (K, n_classes, n_features) in [-1, 1], and the encoder that they were fitted to."""

    vectors: Tensor
    encoder: str

    def save(self, path: Path) -> None:
        save_file({"vectors": self.vectors.float().contiguous()}, path, metadata={"encoder": self.encoder})

    @classmethod
    def load(cls, path: Path, encoder: FeatureEncoder, n_classes: int) -> StyleBook:
        """Raises `UserError` for a file that is missing or damaged, and for looks of another encoder or labels."""
        fix = "fit them again (python -m tools.fit_styles RUN)"
        if not path.is_file():
            raise UserError(f"no looks to choose from: {path} is missing; fit them (python -m tools.fit_styles RUN)")
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"larger than {MAX_BYTES} bytes")
            with safe_open(path, "pt") as file:
                metadata, names = file.metadata() or {}, list(file.keys())
                if names != ["vectors"]:
                    raise ValueError(f"it holds {names}, not vectors")
                vectors = file.get_tensor("vectors")
        except (OSError, SafetensorError, ValueError) as error:
            raise UserError(f"{path} holds no looks ({shown(error)}): {fix}") from None
        n_features = feature_count(encoder)
        if vectors.dtype != torch.float32 or vectors.dim() != 3 or not len(vectors) or not vectors.isfinite().all():
            raise UserError(f"{path} holds no looks (vectors {tuple(vectors.shape)} of {vectors.dtype}): {fix}")
        if vectors.shape[1:] != (n_classes, n_features):
            raise UserError(f"{path} holds looks of {vectors.shape[1]} classes in {vectors.shape[2]} numbers; this "
                            f"model has {n_classes} classes and {n_features} numbers: {fix}")
        if metadata.get("encoder") != fingerprint(encoder):
            raise UserError(f"{path} was fitted to other weights than these: {fix}")
        return cls(vectors, metadata["encoder"])


def feature_count(encoder: FeatureEncoder) -> int:
    """Numbers per region that an encoder gives."""
    return [module for module in encoder.modules() if isinstance(module, torch.nn.Conv2d)][-1].out_channels


def fingerprint(encoder: FeatureEncoder) -> str:
    """Another one for other weights; the number format that they are stored in plays no part."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(encoder.named_parameters()):
        digest.update(name.encode() + parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
