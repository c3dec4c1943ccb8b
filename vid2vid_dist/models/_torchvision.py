"""The one door to torchvision.

A torchvision that was compiled for another torch build (a CUDA wheel beside a CPU torch) cannot load its
operators, and then fails to import because it describes two of them. None of them is used here: declaring
their schemas is enough. Import `models` from this module, never torchvision itself.
"""

import torch

try:
    from torchvision import models
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    _schemas = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _schemas.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import models

__all__ = ["models"]
