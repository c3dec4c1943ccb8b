"""Devices and number formats by name, as programs give them: `vid2vid_dist.load(device=…, precision=…)`."""

import pytest
import torch

from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.runtime import choose_device, choose_dtype

CPU = torch.device("cpu")


def test_what_there_is() -> None:
    assert choose_device("cpu") == CPU
    assert [choose_dtype(name, Config(), CPU) for name in ("fp32", "bf16")] == [torch.float32, torch.bfloat16]


def test_auto_is_bf16_where_it_was_trained_so_and_a_gpu_makes_it_fast() -> None:
    cfg = Config()
    cfg.optim.precision = "bf16"
    assert choose_dtype("auto", cfg, CPU) == choose_dtype("auto", Config(), torch.device("cuda")) == torch.float32
    assert choose_dtype("auto", cfg, torch.device("cuda")) == torch.bfloat16


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(UserError, match="device gpu: choose auto, cpu or cuda"):
        choose_device("gpu")
    for precision in ("fp64", "half"):
        with pytest.raises(UserError, match=f"precision {precision}: choose auto, fp32 or bf16"):
            choose_dtype(precision, Config(), CPU)
