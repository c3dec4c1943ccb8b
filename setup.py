"""What pyproject.toml cannot say: where the recipes lie, and which commit a distribution is built from.

In a checkout the recipes are in configs/, beside the package; installed they are in vid2vid_dist/configs.
"""

import json
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

sys.path.insert(0, str(Path(__file__).parent))

from vid2vid_dist.version import COMMIT, code_version


def record(package: Path) -> None:
    (package / COMMIT).write_text(json.dumps(code_version()))


class BuildWithCommit(build_py):
    """Writes the commit beside the code."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            record(Path(self.build_lib) / "vid2vid_dist")


class SdistWithCommit(sdist):
    """The same for a source distribution, which has no repository around it."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        record(Path(base_dir) / "vid2vid_dist")


setup(packages=[*find_packages(include=["vid2vid_dist*"]), "vid2vid_dist.configs"],
      package_dir={"vid2vid_dist.configs": "configs"},
      cmdclass={"build_py": BuildWithCommit, "sdist": SdistWithCommit})
