"""GPU telemetry with an NVML made up for the test, and without one."""

import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from vid2vid_dist.monitor.gpu import GpuMeter

CUDA = torch.device("cuda", 1)


class FakeNvmlError(Exception):
    pass


def fake_nvml(fail: str = "") -> ModuleType:
    """An NVML that knows one GPU; the function named `fail` does not work on it."""
    module = ModuleType("pynvml")

    def answer(name: str, value: object) -> None:
        def query(*args: object) -> object:
            if name == fail:
                raise FakeNvmlError(f"{name} is not supported")
            return value(*args) if callable(value) else value

        setattr(module, name, query)

    module.NVMLError = FakeNvmlError
    module.NVML_TEMPERATURE_GPU, module.NVML_CLOCK_SM, module.NVML_CLOCK_MEM = 0, 1, 2
    answer("nvmlInit", None)
    answer("nvmlDeviceGetHandleByUUID", lambda uuid: {"GPU-1234-abcd": "handle"}[uuid])
    answer("nvmlDeviceGetName", "Test GPU")
    answer("nvmlDeviceGetUtilizationRates", SimpleNamespace(gpu=0, memory=40))
    answer("nvmlDeviceGetMemoryInfo", SimpleNamespace(used=3 * 2**30, total=80 * 2**30))
    answer("nvmlDeviceGetPowerUsage", 612500)
    joules = iter([5_000_000, 5_000_000 + 9_000_000])  # in thousands: since the driver was loaded, at each question
    answer("nvmlDeviceGetTotalEnergyConsumption", lambda handle: next(joules))
    answer("nvmlDeviceGetTemperature", lambda handle, sensor: 61)
    answer("nvmlDeviceGetClockInfo", lambda handle, clock: {1: 1980, 2: 2619}[clock])
    return module


@pytest.fixture
def second_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's device 1 has the UUID that the fake NVML knows."""
    properties = {CUDA: SimpleNamespace(uuid="1234-abcd")}
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties.__getitem__)


@pytest.mark.usefixtures("second_gpu")
def test_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    reading = GpuMeter(CUDA).read()
    assert reading is not None
    assert (reading.name, reading.utilisation, reading.temperature) == ("Test GPU", 0, 61)
    assert (reading.memory_used, reading.memory_total, reading.power) == (3.0, 80.0, 612.5)
    assert (reading.sm_clock, reading.memory_clock) == (1980, 2619)
    assert reading.energy == 2.5  # of 9 kJ


@pytest.mark.usefixtures("second_gpu")
def test_a_figure_that_the_gpu_does_not_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(fail="nvmlDeviceGetPowerUsage"))
    reading = GpuMeter(CUDA).read()
    assert reading is not None
    assert reading.power is None
    assert reading.memory_used == 3.0


@pytest.mark.usefixtures("second_gpu")
@pytest.mark.parametrize("pynvml", [None, fake_nvml(fail="nvmlInit")], ids=["not installed", "no driver"])
def test_without_nvml_one_log_line_and_nothing_else(
    pynvml: ModuleType | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    caplog.set_level(logging.INFO)
    meter = GpuMeter(CUDA)
    assert [meter.read(), meter.read()] == [None, None]
    assert len(caplog.records) == 1
    assert "no GPU telemetry" in caplog.text


@pytest.mark.usefixtures("second_gpu")
def test_an_nvml_too_old_for_what_is_asked_costs_the_figures_alone(
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It knows no energy."""
    module = fake_nvml()
    del module.nvmlDeviceGetTotalEnergyConsumption
    monkeypatch.setitem(sys.modules, "pynvml", module)
    caplog.set_level(logging.INFO)
    assert GpuMeter(CUDA).read() is None
    assert "no GPU telemetry" in caplog.text


def test_on_a_cpu(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert GpuMeter(torch.device("cpu")).read() is None
    assert len(caplog.records) == 1
