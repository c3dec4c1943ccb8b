"""GPU telemetry through NVML. It watches and never disturbs: without NVML there is one log line, no error."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

log = logging.getLogger(__name__)

MILLIJOULES = 3.6e6  # in a watt-hour


@dataclass(frozen=True)
class GpuReading:
    """One look at one GPU. Every field is plain data, so readings travel between ranks as they are.

    A figure that this GPU does not offer is None.
    """

    name: str
    utilisation: int | None  # per cent of the last sample period in which a kernel ran
    memory_used: float | None  # GiB, all processes
    memory_total: float | None  # GiB
    power: float | None  # watts
    temperature: int | None  # degrees Celsius
    sm_clock: int | None  # MHz
    memory_clock: int | None  # MHz
    energy: float | None = None  # watt-hours since this process began to train; all processes of the GPU


class GpuMeter:
    """Reads the GPU of this rank; `read()` gives None on a CPU or where NVML does not answer."""

    def __init__(self, device: torch.device) -> None:
        self._nvml: Any = None
        if device.type != "cuda":
            log.info("no GPU telemetry: this rank works on the CPU")
            return
        try:
            import pynvml

            self._nvml = pynvml
            pynvml.nvmlInit()
            # By UUID: CUDA_VISIBLE_DEVICES renumbers CUDA's devices, but not NVML's.
            uuid = torch.cuda.get_device_properties(device).uuid
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            self._energy_before = self._ask(pynvml.nvmlDeviceGetTotalEnergyConsumption)
        except Exception as error:
            self._nvml = None
            log.info("no GPU telemetry: %s", error)

    def read(self) -> GpuReading | None:
        """The figures of this moment."""
        if self._nvml is None:
            return None
        pynvml, ask = self._nvml, self._ask
        name = ask(pynvml.nvmlDeviceGetName)
        rates = ask(pynvml.nvmlDeviceGetUtilizationRates)
        memory = ask(pynvml.nvmlDeviceGetMemoryInfo)
        milliwatts = ask(pynvml.nvmlDeviceGetPowerUsage)
        energy = ask(pynvml.nvmlDeviceGetTotalEnergyConsumption)
        known = None not in (energy, self._energy_before)
        return GpuReading(
            name=name or "GPU",
            utilisation=rates.gpu if rates else None,
            memory_used=memory.used / 2**30 if memory else None,
            memory_total=memory.total / 2**30 if memory else None,
            power=milliwatts / 1000 if milliwatts else None,
            temperature=ask(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
            sm_clock=ask(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
            memory_clock=ask(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM),
            energy=(energy - self._energy_before) / MILLIJOULES if known else None,
        )

    def _ask(self, query: Callable[..., Any], *args: int) -> Any:
        """What NVML answers, None where this GPU does not offer it."""
        try:
            return query(self._handle, *args)
        except self._nvml.NVMLError:
            return None
