"""One pipeline over two hosts, network namespaces joined by a virtual cable, trains as it does on one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.torchrun import ROOT, pid_of_rank, torchrun, wait_until
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street
from vid2vid_dist.training.checkpoint import newest_checkpoint

SETTINGS = [
    "data.loadSize=64", "generator.ngf=4", "generator.n_blocks=2", "generator.n_downsample_G=2",
    "generator.n_scales_spatial=2", "discriminator.ndf=4", "discriminator.num_D=1",
    "discriminator.n_scales_temporal=1", "loss.no_vgg=true", "schedule.n_frames_total=4",
    "schedule.n_generator_slots=2", "schedule.max_frames_backpropagate=2", "monitor.tensorboard=false",
    "monitor.pictures_every=0", "run.device=cpu",
]


def ip(command: str) -> bool:
    """Whether a command of iproute2 works here."""
    try:
        return subprocess.run(["ip", *command.split()], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Names of two namespaces with the addresses 10.77.0.1 and 10.77.0.2."""
    names = [f"v2v{os.getpid()}{side}" for side in "ab"]
    if not ip(f"netns add {names[0]}"):
        pytest.skip("no network namespaces here: needs root and iproute2")
    try:
        assert ip(f"netns add {names[1]}")
        assert ip(f"link add {names[0]} netns {names[0]} type veth peer name {names[1]} netns {names[1]}")
        for number, name in enumerate(names, 1):
            assert ip(f"-n {name} addr add 10.77.0.{number}/24 dev {name}")
            assert ip(f"-n {name} link set {name} up")
            assert ip(f"-n {name} link set lo up")
        yield names
    finally:
        for name in names:
            ip(f"netns del {name}")


def arguments_in(folder: Path) -> list[str]:
    """A configuration with shards and runs in a folder."""
    render_toy_street(folder / "raw", ToyOptions(n_train=4, n_test=1, n_frames=6, width=64, height=32))
    make_shards(folder / "raw", folder / "shards", PackOptions(label_nc=35))
    return ["configs/base.yaml", *SETTINGS, f"data.shards={folder / 'shards'}", f"run.root={folder}"]


def start_on(hosts: list[str], each: int, *arguments: str) -> list[subprocess.Popen[str]]:
    """A torchrun on each host, with so many ranks."""
    jobs = []
    for number, name in enumerate(hosts):
        command = ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run", "--nnodes=2",
                   f"--nproc_per_node={each}", f"--node_rank={number}", "--master_addr=10.77.0.1",
                   "--master_port=29511", str(ROOT / "launch/train.py"), *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": name}
        jobs.append(subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT))
    return jobs


def weights(run: Path) -> dict[str, Tensor]:
    folder = run / "checkpoints" / (run / "checkpoints/latest").read_text().strip()
    return {f"{path.stem}.{name}": x for path in folder.glob("*.safetensors") for name, x in load_file(path).items()}


@pytest.mark.long
@pytest.mark.parametrize("each", [pytest.param(1, marks=pytest.mark.full), 2])
def test_a_pipeline_over_two_hosts_equals_one_host(hosts: list[str], tmp_path: Path, each: int) -> None:
    """With so many ranks on each host: the generator's on the first, the others on the second."""
    arguments = [*arguments_in(tmp_path), f"parallel.placement=split:{each}+{each}", "run.max_steps=3"]
    one = torchrun(2 * each, "launch/train.py", *arguments, "run.name=one")
    assert one.returncode == 0, one.stdout
    jobs = start_on(hosts, each, *arguments, "run.name=two")
    said = [job.communicate(timeout=240)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], "\n".join(said)
    assert f"node 1  pipeline 0  slot {each}  rank   {each}  image" in said[0]
    reference, found = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert reference.keys() == found.keys()
    assert all(reference[name].equal(found[name]) for name in reference)


@pytest.mark.fault(
    "A run ends",
    "a host that is lost (its cable pulled, its processes dead)",
    "the others wait for `parallel.timeout`, name its ranks, and end",
    "steps since the last checkpoint")
@pytest.mark.long
def test_a_host_that_is_lost(hosts: list[str], tmp_path: Path) -> None:
    """Its cable is pulled and its processes die, and nothing tells the other one, which waits and ends by itself."""
    arguments = [*arguments_in(tmp_path), "parallel.placement=split:1+1", "run.name=lost", "run.save_every_steps=1",
                 "schedule.niter=999", "monitor.log_every=1", "parallel.timeout=0.3"]
    first, second = start_on(hosts, 1, *arguments)
    run = tmp_path / "lost"
    try:
        wait_until(lambda: (run / "checkpoints/latest").is_file(), 200)
        rank = pid_of_rank(second, 1)
        assert ip(f"-n {hosts[1]} link set {hosts[1]} down")
    finally:
        second.kill()
    os.kill(rank, signal.SIGKILL)
    second.communicate()
    first.communicate(timeout=150)
    assert first.returncode
    told = json.loads((run / "status.json").read_text())
    assert (told["status"], told["cause"]) == ("failed", "lost rank")
    assert "no heartbeat of rank 1" in told["why"]
    assert newest_checkpoint(run) is not None
