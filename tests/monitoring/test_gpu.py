"""GPUs: what a device tells becomes gauges; a machine without one has none."""

from slipstream.core.metrics import METRICS
from slipstream.monitoring.gpu import Gpu, GpuReader


def test_reading_never_fails() -> None:
    """With or without devices, driver or package there is an answer."""
    reader = GpuReader()
    try:
        for gpu in reader.read():
            assert gpu.memory_total_bytes >= gpu.memory_bytes >= 0
    finally:
        reader.close()
    assert reader.read() == []


def test_gauges_are_declared() -> None:
    """Names and labels are those of the table; what a device does not tell is left out."""
    told = list(Gpu("0", "H100", None, 10, 40, 300.0, 55.0).gauges())

    assert {name: value for name, _, value in told} == {
        "gpu_memory_bytes": 10, "gpu_memory_usage": 25.0, "gpu_power": 300.0, "gpu_temperature": 55.0,
    }  # fmt: skip
    for name, labels, _ in told:
        assert METRICS[name].kind == "gauge"
        assert labels == {"gpu": "0"}
