"""GPUs of the machine by NVIDIA's management library, where it is (extra `gpu`). Knows no metric's keeper."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from msgspec import Struct

GPUS_MAX = 32
"""Devices that are looked at."""


class Gpu(Struct, frozen=True):
    """One device; None for what it does not tell."""

    name: str
    """`0`, `1` …: its number, which is the label."""
    model: str
    busy_percent: float | None
    memory_bytes: int
    memory_total_bytes: int
    power_watts: float | None
    temperature_celsius: float | None

    def gauges(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """What of it is a gauge of `core.metrics`."""
        label = {"gpu": self.name}
        yield "gpu_memory_bytes", label, self.memory_bytes
        if self.memory_total_bytes:
            yield "gpu_memory_usage", label, 100.0 * self.memory_bytes / self.memory_total_bytes
        for metric, value in (
            ("gpu_usage", self.busy_percent),
            ("gpu_power", self.power_watts),
            ("gpu_temperature", self.temperature_celsius),
        ):
            if value is not None:
                yield metric, label, value


class GpuReader:
    """Looks at every device; without package, driver or device there is none. Not for an event loop."""

    def __init__(self) -> None:
        self._library = _library()
        self._devices: list[Any] = []
        if self._library is not None:
            count = min(self._library.nvmlDeviceGetCount(), GPUS_MAX)
            self._devices = [self._library.nvmlDeviceGetHandleByIndex(index) for index in range(count)]

    def read(self) -> list[Gpu]:
        """How the devices do now; one that does not answer is left out."""
        if self._library is None:
            return []
        found = []
        for index, device in enumerate(self._devices):
            try:
                found.append(_gpu(self._library, index, device))
            except self._library.NVMLError:
                continue
        return found

    def close(self) -> None:
        """Let go of the library."""
        if self._library is not None:
            self._library.nvmlShutdown()
            self._library, self._devices = None, []


def _library() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver here
        return None
    library: ModuleType = pynvml
    return library


def _gpu(library: Any, index: int, device: Any) -> Gpu:
    memory = library.nvmlDeviceGetMemoryInfo(device)
    model = library.nvmlDeviceGetName(device)
    busy = _asked(library, lambda: library.nvmlDeviceGetUtilizationRates(device).gpu)
    power = _asked(library, lambda: library.nvmlDeviceGetPowerUsage(device) / 1000.0)
    celsius = library.NVML_TEMPERATURE_GPU
    temperature = _asked(library, lambda: library.nvmlDeviceGetTemperature(device, celsius))
    return Gpu(
        str(index),
        model.decode() if isinstance(model, bytes) else model,
        busy,
        memory.used,
        memory.total,
        power,
        temperature,
    )


def _asked(library: Any, question: Any) -> float | None:
    """The answer; None from a device that does not know (a shared one, a laptop's)."""
    try:
        return float(question())
    except library.NVMLError:
        return None
