"""The guide's import path for `slipstream.monitoring`."""

from slipstream.monitoring.throughput import ThroughputMonitor

__all__ = ["ThroughputMonitor"]
