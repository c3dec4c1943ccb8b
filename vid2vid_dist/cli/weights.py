"""Fetch the weights of the frozen networks, on a machine with network: training and evaluation need none afterwards.

    python -m vid2vid_dist weights                       all of them (1.2 GB) into weights/
    python -m vid2vid_dist weights shared/weights --base-url http://mirror/models

Published names end in the first 8 digits of their SHA-256 (of I3D all digits are known), which is checked; the whole
one is kept in SHA256SUMS beside the files, and checked from then on. A download that broke off goes on where it was.
"""

import argparse
import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from vid2vid_dist.data.atomic import locked, write_atomically
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference._torchmetrics import URL_INCEPTION_V3
from vid2vid_dist.models._torchvision import models

OUT = Path("weights")
SUMS = "SHA256SUMS"  # as sha256sum writes and checks it
TIMEOUT = 30  # seconds without a byte
MAX_BYTES = 2 * 2**30  # VGG19 has 575 MB


@dataclass(frozen=True)
class Published:
    """A published file, the name that it gets here, and the settings or options that name it."""

    name: str
    url: str
    settings: str
    sha256: str = ""  # where the published name does not end in its first digits

    @property
    def published_name(self) -> str:
        return self.url.rpartition("/")[2].partition("?")[0]

    @property
    def hash_prefix(self) -> str:
        """The first digits of the file's SHA-256, or all of them."""
        if self.sha256:
            return self.sha256
        match = re.search(r"-([0-9a-f]{8})\.pth$", self.published_name)
        assert match, f"{self.published_name} carries no hash"
        return match[1]


FLOW = models.optical_flow
FILES = (
    Published("vgg19.pth", models.VGG19_Weights.IMAGENET1K_V1.url, "loss.vgg_weights={path}"),
    Published("raft_large.pth", FLOW.Raft_Large_Weights.C_T_SKHT_V2.url, "flow.network=raft_large flow.weights={path}"),
    Published("raft_small.pth", FLOW.Raft_Small_Weights.C_T_V2.url, "flow.network=raft_small flow.weights={path}"),
    Published("alexnet.pth", models.AlexNet_Weights.IMAGENET1K_V1.url, "vid2vid-evaluate --lpips-weights {path}"),
    Published("deeplabv3_resnet50.pth", models.segmentation.DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.url,
              "python -m vid2vid_dist prepare-video labels … --weights {path}"),
    Published("inception.pth", URL_INCEPTION_V3, "vid2vid-evaluate --fid-weights {path}"),
    # StyleGAN-V's TorchScript of the network that FVD was published with.
    Published("i3d_torchscript.pt", "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
              "vid2vid-evaluate --fvd-weights {path}",
              "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"),
)


def fetch(file: Published, folder: Path, base_url: str = "") -> str:
    """Put a file into `folder`, unless it is there already; one line about it.

    Raises `UserError` without network, for a refused request, a full disk, or bytes of another file.
    """
    path, url = folder / file.name, f"{base_url.rstrip('/')}/{file.published_name}" if base_url else file.url
    known = _read_sums(folder).get(file.name, file.hash_prefix)
    try:
        with locked(path):
            if path.is_file():
                if not _sha256(path).startswith(known):
                    raise UserError(f"{path} is damaged (its SHA-256 does not begin with {known[:8]}): remove it and "
                                    "try again")
                return f"{path}: is there"
            part = path.with_name(f".{file.name}.part")
            digest = _download_checked(url, part, known)
            _write_sums(folder, file.name, digest)
            os.replace(part, path)
    except (http.client.HTTPException, OSError) as error:  # URLError is an OSError
        raise UserError(f"cannot fetch {url}: {_reason(error)}; run this where there is network, or copy the file "
                        f"to {path} (its SHA-256 begins with {known[:8]}). What has come is kept") from None
    return f"{path}: {path.stat().st_size / 1e6:.0f} MB, SHA-256 {digest}"


def _download_checked(url: str, part: Path, known: str) -> str:
    """Fill `part`; its SHA-256, which begins with `known`."""
    for _ in range(2):  # what an earlier attempt left may be of something else: then once more from the start
        _download(url, part)
        digest = _sha256(part)
        if digest.startswith(known):
            return digest
        part.unlink()
    raise UserError(f"{url} gives another file: its SHA-256 begins with {digest[:8]}, not {known[:8]}; "
                    "try another --base-url")


def _download(url: str, part: Path) -> None:
    """Fill `part`, from where it ends. Raises `OSError` when the connection breaks or the server refuses."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumes = answer.status == http.HTTPStatus.PARTIAL_CONTENT
            length = int(answer.headers.get("Content-Length", 0))
            if length + have * resumes > MAX_BYTES:
                raise OSError(f"{length} bytes are more than any of these files has")
            with part.open("ab" if resumes else "wb") as file:
                shutil.copyfileobj(answer, file, 2**20)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            if length and size != length + have * resumes:
                raise OSError(f"the connection broke off after {size} bytes")
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise  # otherwise there is no more: the part is whole, or its hash will tell


def _reason(error: Exception) -> str:
    """Without the nesting of URLError."""
    return str(getattr(error, "reason", None) or error)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_sums(folder: Path) -> dict[str, str]:
    """Hash by file name."""
    path = folder / SUMS
    lines = path.read_text().splitlines() if path.is_file() else []
    return {line[66:]: line[:64] for line in lines if re.fullmatch(r"[0-9a-f]{64}  .+", line)}


def _write_sums(folder: Path, name: str, digest: str) -> None:
    sums = {**_read_sums(folder), name: digest}
    write_atomically(folder / SUMS, "".join(f"{value}  {key}\n" for key, value in sorted(sums.items())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=OUT, help=f"folder (default: {OUT}/)")
    parser.add_argument("--base-url", default="", metavar="URL", help="a mirror of https://download.pytorch.org/models")
    args = parser.parse_args()
    for file in FILES:
        print(fetch(file, args.out, args.base_url), flush=True)
    print("settings and options that use them:")
    for file in FILES:
        print("  " + file.settings.format(path=args.out / file.name))
