"""The door to torchmetrics and torch-fidelity, which import torchvision: ours has to be the first to do so (see
`models._torchvision`)."""
# ruff: noqa: I001

from vid2vid_dist.models import _torchvision
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.functional.image.lpips import _LPIPS as LPIPS

__all__ = ["LPIPS", "URL_INCEPTION_V3", "FeatureExtractorInceptionV3", "_torchvision", "peak_signal_noise_ratio",
           "structural_similarity_index_measure"]
