"""`python -m vid2vid_dist.config`."""

import subprocess
import sys
from pathlib import Path

import pytest

from vid2vid_dist.config.__main__ import main, show, template
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.options import options
from vid2vid_dist.config.schema import Config


def test_show_prints_every_key_with_its_source(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("optim:\n  lr: 1e-4\n")
    lines = show([str(path), "run.seed=7"]).splitlines()
    pairs = (line.split(" = ") for line in lines)
    parsed = {key: [part.strip() for part in rest.split("  # ")] for key, rest in pairs}
    assert list(parsed) == list(options())
    assert parsed["optim.lr"] == ["0.0001", f"{path}:2"]
    assert parsed["run.seed"] == ["7", "command line"]
    assert parsed["generator.fg_labels"] == ["[26]", "default"]


def test_template_is_the_default_configuration_with_every_key_commented(tmp_path: Path) -> None:
    path = tmp_path / "base.yaml"
    path.write_text(template())
    assert load_config(path) == Config()
    for option in options().values():
        assert f"  {option.field.name}: " in template()
        assert option.help.split()[0] in template()


def test_mistake_is_one_line_and_status_2() -> None:
    result = subprocess.run([sys.executable, "-m", "vid2vid_dist.config", "show", "optim.lr=2"],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "error: command line: optim.lr=2 is out of range 0..1 (learning rate at the start)\n")


def test_unknown_command(capsys: pytest.CaptureFixture) -> None:
    assert main(["shwo"]) == 2
    assert "no such command: shwo" in capsys.readouterr().err
