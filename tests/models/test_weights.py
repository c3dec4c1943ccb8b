"""Published weights: what is loaded, and what is said when they cannot be."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from vid2vid_dist.errors import UserError
from vid2vid_dist.models.weights import load_published, read_weights, save_tensors


def test_part_of_a_larger_network_is_loaded(tmp_path: Path) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    whole = {f"features.{name}": value for name, value in source.state_dict().items()}
    torch.save(whole | {"classifier.weight": torch.zeros(1)}, tmp_path / "w.pth")
    load_published(target, str(tmp_path / "w.pth"), "fix", prefix="features.")
    assert torch.equal(target.weight, source.weight)
    assert torch.equal(target.bias, source.bias)


@pytest.mark.parametrize("path", ["", "nowhere.pth"])
def test_missing_file(path: str) -> None:
    with pytest.raises(UserError, match=f"no weights file at '{path}': set the key"):
        load_published(nn.Linear(2, 3), path, "set the key")


def test_wrappers_are_taken_off_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As training scripts leave them: a checkpoint with more in it, of a module under DataParallel."""
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    table = {f"module.{name}": value for name, value in source.state_dict().items()}
    torch.save({"epoch": torch.tensor(3), "state_dict": table}, tmp_path / "w.pth")
    load_published(target, str(tmp_path / "w.pth"), "fix")
    assert torch.equal(target.weight, source.weight)
    assert "taken are the weights under state_dict; left out: [epoch]" in caplog.text
    assert "names without their prefix module." in caplog.text


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(nn.Linear(2, 3).state_dict(), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"w\.pth: not a readable weights file .*: set the key"):
        load_published(nn.Linear(2, 3), str(path), "set the key")


def test_another_networks_file(tmp_path: Path) -> None:
    torch.save(nn.Linear(5, 3).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth holds the weights of another network: set the key"):
        load_published(nn.Linear(2, 3), str(tmp_path / "w.pth"), "set the key")


def test_file_without_a_table(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: no table of tensors"):
        load_published(nn.Linear(2, 3), str(tmp_path / "w.pth"), "set the key")


@pytest.mark.fault(
    "Files",
    "a weights file is cut, or cleared away by another host, while it is in use",
    "goes on with what was read, or one line",
    "nothing")
def test_what_is_loaded_does_not_change_with_its_file(tmp_path: Path) -> None:
    """A file that was mapped would end the process when another one cuts it."""
    path, wanted = tmp_path / "w.safetensors", {"a": torch.arange(10_000.0)}
    save_tensors(wanted, path)
    found = read_weights(path, wanted, "fix")
    os.truncate(path, 10)
    assert torch.equal(found["a"], wanted["a"])
    with pytest.raises(UserError, match=r"w\.safetensors cannot be read .*: fix"):
        read_weights(path, wanted, "fix")
