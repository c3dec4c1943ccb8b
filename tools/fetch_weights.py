"""Fetch the published weights that losses and figures can name, into weights/: nothing else here downloads anything.

    python -m tools.fetch_weights               all of them (1.2 GB)
    python -m tools.fetch_weights vgg19 r3d_18  some
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import torch

from launch._cli import run_main
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference._torchmetrics import URL_INCEPTION_V3
from vid2vid_dist.models._torchvision import models

FOLDER = Path("weights")


@dataclass(frozen=True)
class Published:
    """A file, with the first digits of its SHA-256 in its name, and the option that takes it."""

    url: str
    option: str

    @property
    def file(self) -> str:
        return Path(urlparse(self.url).path).name


PUBLISHED = {
    "vgg19": Published(models.VGG19_Weights.IMAGENET1K_V1.url, "loss.vgg_weights={}"),
    "raft_large": Published(models.optical_flow.Raft_Large_Weights.C_T_SKHT_V2.url,
                            "flow.network=raft_large flow.weights={}"),
    "raft_small": Published(models.optical_flow.Raft_Small_Weights.C_T_V2.url,
                            "flow.network=raft_small flow.weights={}"),
    "alexnet": Published(models.AlexNet_Weights.IMAGENET1K_V1.url, "launch/evaluate.py --lpips-weights {}"),
    "inception": Published(URL_INCEPTION_V3, "launch/evaluate.py --fid-weights {}"),
    "r3d_18": Published(models.video.R3D_18_Weights.KINETICS400_V1.url, "launch/evaluate.py --video-fid-weights {}"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PUBLISHED))
    for name in parser.parse_args().names or PUBLISHED:
        if name not in PUBLISHED:
            raise UserError(f"no weights called {name}: there are {', '.join(PUBLISHED)}")
        file = fetch(PUBLISHED[name], FOLDER)
        print(f"{name}: {PUBLISHED[name].option.format(file)}")


def fetch(published: Published, folder: Path) -> Path:
    """Download a file unless it is there; gives its path. Raises `UserError` when it does not arrive whole."""
    try:
        torch.hub.load_state_dict_from_url(published.url, str(folder), check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{published.url} cannot be fetched ({error}): try again, or put the file into {folder}/ "
                        "yourself") from None
    return folder / published.file


if __name__ == "__main__":
    run_main(main)
