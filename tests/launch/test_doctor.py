"""The preflight: two healthy ranks, and ranks that lack something."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.damage import tar_of
from tests.torchrun import torchrun
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.doctor import findings as preflight_checks
from vid2vid_dist.doctor.examine import examine
from vid2vid_dist.doctor.findings import FAULT, OK, WARNING, Check, Needs, Seen
from vid2vid_dist.doctor.probe import Link, rounds
from vid2vid_dist.toy.face import render_toy_face
from vid2vid_dist.toy.pose import render_toy_pose
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

SMALL = ["data.loadSize=64", "generator.ngf=4", "generator.n_blocks=2", "generator.n_downsample_G=2",
         "discriminator.ndf=4", "discriminator.num_D=1", "discriminator.n_scales_temporal=1", "loss.no_vgg=true",
         "schedule.n_frames_total=4", "schedule.n_generator_slots=2", "run.device=cpu", "parallel.clips_per_step=2"]
NAMES = ["versions", "devices", "placement", "memory", "disk", "/dev/shm", "shards", "compiler", "clocks", "links",
         "stragglers"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sound shards in `good/`, and `bad/`, where the last frame of the last shard is damaged."""
    root = tmp_path_factory.mktemp("data")
    render_toy_street(root / "raw", ToyOptions(n_train=2, n_test=0, n_frames=6, width=64, height=32))
    make_shards(root / "raw", root / "good/shards", PackOptions())
    shutil.copytree(root / "good", root / "bad")
    entry = ShardIndex(root / "bad/shards/train").entry(1, "labels", 5)
    with tar_of(root / "bad/shards/train").open("r+b") as tar:
        tar.seek(entry.offset + entry.size // 2)
        tar.write(b"\0\1\2\3")
    return root


def examine_alone(*settings: str) -> dict[str, Check]:
    """The checks by name, on one rank."""
    grid = open_grid("cpu")
    try:
        checks, _ = examine(load_config(None, [*SMALL, *settings]), grid)
    finally:
        grid.close()
    return {check.name: check for check in checks}


def states(findings: dict) -> dict[str, str]:
    return {check["name"]: check["state"] for check in findings["checks"]}


def test_two_ranks_in_order(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = torchrun(2, "launch/doctor.py", str(ROOT / "configs/base.yaml"), "data.shards=shards",
                    f"run.root={tmp_path}", "parallel.placement=split:1+1", *SMALL, "--json", str(out),
                    cwd=data / "good")
    findings = json.loads(out.read_text())
    found = states(findings)
    assert list(found) == NAMES
    # Timings depend on what else the machine does: they may warn here.
    assert {name: state for name, state in found.items() if name not in ("links", "stragglers")} == dict.fromkeys(
        NAMES[:-2], OK), done.stdout
    assert done.returncode == (0 if findings["ok"] else 1)
    assert findings["seconds"] < 60
    assert len(findings["ranks"]) == len(findings["convolution_s"]) == 2
    # The generator's frames go to the discriminators, gradients come back.
    assert {(link["source"], link["destination"]) for link in findings["links"]} == {(0, 1), (1, 0)}
    assert all(1e6 < link["bandwidth"] < 1e12 for link in findings["links"])
    assert "split 1G+1D: 1 × 2 ranks, frames of 64x32" in done.stdout
    assert "2 ranks looked at in" in done.stdout
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.long
def test_a_rank_with_other_shards_is_named(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = torchrun(2, "tests/launch/doctor_elsewhere.py", str(data / "bad"), str(ROOT / "configs/base.yaml"),
                    "data.shards=shards", f"run.root={tmp_path}", *SMALL, "--json", str(out), cwd=data / "good")
    findings = json.loads(out.read_text())
    (found,) = [check for check in findings["checks"] if check["name"] == "shards"]
    assert done.returncode == 1
    assert found["state"] == FAULT
    assert len(found["found"]) == 1
    assert found["found"][0].startswith("rank 1 (")
    assert "labels of street0001/frame000005" in found["found"][0]
    assert "fault    shards      rank 1 (" in done.stdout


def test_one_rank_without_shards_or_a_place_to_write(tmp_path: Path) -> None:
    found = examine_alone("run.root=/proc/nowhere", f"data.shards={tmp_path}")
    assert {name for name, check in found.items() if check.state == FAULT} == {"shards", "placement", "disk"}
    assert "cannot write to /proc" in found["disk"].found[0]
    assert f"no shards at {tmp_path}/train" in found["shards"].found[0]
    assert "no rank can read the shards" in found["placement"].found[0]


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for nothing."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a file system here: needs root")
    try:
        with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk(full_disk: Path, data: Path) -> None:
    disk = examine_alone(f"data.shards={data}/good/shards", f"run.root={full_disk}")["disk"]
    assert disk.state == FAULT
    assert f"cannot write to {full_disk}: No space left on device" in disk.found[0]


def test_a_placement_that_cannot_be(data: Path) -> None:
    placement = examine_alone(f"data.shards={data}/good/shards", "parallel.placement=split:3+1")["placement"]
    assert placement.state == FAULT
    assert "placement split:3+1 needs 4 ranks" in placement.found[0]


@pytest.mark.parametrize(("task", "settings", "size"), [
    ("face", ["data.input_nc=15"], "64x64"),  # a square around the face
    ("pose", ["data.input_nc=6", "data.loadSize=128"], "64x96"),  # the middle half
])
def test_faces_and_bodies(task: str, settings: list[str], size: str, tmp_path: Path) -> None:
    render = {"face": render_toy_face, "pose": render_toy_pose}[task]
    render(tmp_path / "raw", ToyOptions(n_train=1, n_test=0, n_frames=4, width=128, height=96))
    make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(task=task))
    found = examine_alone(f"data.shards={tmp_path}/shards", f"run.root={tmp_path}", f"data.task={task}",
                          "data.label_nc=0", *settings)
    assert found["shards"].state == OK, found["shards"].found
    assert found["placement"].found[0].endswith(f"frames of {size}")


def test_shards_of_another_task(data: Path, tmp_path: Path) -> None:
    shards = examine_alone(f"data.shards={data}/good/shards", f"run.root={tmp_path}", "data.task=face",
                           "data.label_nc=0", "data.input_nc=15")["shards"]
    assert shards.state == FAULT
    assert "was packed for data.task=street, not face" in shards.found[0]


GOOD = Seen("node0", {"python": "3.11", "torch": "2.13.0", "deepspeed": "0.19"}, "H100", "gpu-0",
            memory_free=80 * 2**30, shm_free=2**34, disk_free=2**40, disk_problem="", shards_problem="",
            frame_size=(64, 32))


def four(**odd: object) -> list[Seen]:
    """Four ranks on two nodes; the last differs."""
    ranks = [replace(GOOD, host=f"node{rank // 2}", device_id=f"gpu-{rank}") for rank in range(4)]
    return [*ranks[:3], replace(ranks[3], **odd)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("check", "words"), [
    (preflight_checks.check_versions(four(versions={**GOOD.versions, "torch": "2.12.1"})),
     "rank 3 (node1): torch 2.12.1, elsewhere 2.13.0"),
    (preflight_checks.check_versions(four(versions={"python": "3.11", "torch": "2.13.0"})),
     "rank 3 (node1): deepspeed missing, elsewhere 0.19"),
    (preflight_checks.check_devices(four(device="A100")), "rank 3 (node1): A100, elsewhere H100"),
    (preflight_checks.check_devices(four(device_id="gpu-2")), "ranks 2, 3 (node1): share GPU gpu-2"),
    (preflight_checks.check_memory(four(memory_free=10 * 2**30), Needs([20 * 2**30] * 4, 0, [], "")),
     "rank 3 (node1): 10.0 GiB free, the plan needs 20.0: free the device, or ask vid2vid-plan --gpu-memory"),
    (preflight_checks.check_disk(four(disk_free=2**30), 8 * 2**30),
     "rank 3 (node1): 1 GiB free for run.root, checkpoints take 8: free some space or lower run.keep_last"),
    (preflight_checks.check_shm(four(shm_free=2**26)),
     "rank 3 (node1): 0.062 GiB free in /dev/shm, NCCL wants 0.12 (docker run --shm-size)"),
    (preflight_checks.check_compiler(four(compiler_problem="no g++")), "rank 3 (node1): no g++"),
    (preflight_checks.check_clocks([0, 0.01, -0.02, -3.5]), "rank 3: clock -3.5 s against rank 0's: start NTP there"),
    (preflight_checks.check_speed(four(), [1.0, 1.1, 1.0, 2.5]),
     "rank 3 (node1): 2.5x the time of the fastest rank: a hot or throttled device, or another program"),
], ids=lambda value: value.name if isinstance(value, Check) else "")
def test_what_differs_is_a_fault_and_named(check: Check, words: str) -> None:
    assert (check.state, check.found) == (FAULT, (words,))


def test_what_is_slow_is_a_warning() -> None:
    links = [Link(0, 1, 10e9), Link(1, 0, 11e9), Link(2, 3, 1e9), Link(1, 2, 2e9), Link(2, 1, 2e9)]
    check = preflight_checks.check_links(four(), links)
    assert check.state == WARNING
    assert check.found == ("rank 2 (node1) to rank 3 (node1): 1.00 GB/s, others in a node 10.00",)
    assert preflight_checks.check_speed(four(), [1.0, 1.1, 1.0, 1.5]).state == WARNING
    assert preflight_checks.check_speed(four(), [1.0, 1.1, 1.0, 1.2]).state == OK


def test_ranks_on_cpus_share_the_memory_of_their_host() -> None:
    ranks = [replace(one, device_id="", memory_free=8 * 2**30) for one in four()]
    assert preflight_checks.check_memory(ranks, Needs([4 * 2**30] * 4, 0, [], "")).state == OK
    assert preflight_checks.check_memory(ranks, Needs([5 * 2**30] * 4, 0, [], "")).state == FAULT


def test_links_are_measured_in_rounds_of_separate_pairs() -> None:
    edges = [(a, b) for a in range(6) for b in range(6) if a != b]
    groups = rounds(edges)
    assert sorted(edge for group in groups for edge in group) == edges
    for group in groups:
        ranks = [rank for edge in group for rank in edge]
        assert len(ranks) == len(set(ranks))
    assert len(groups) < len(edges) / 2
