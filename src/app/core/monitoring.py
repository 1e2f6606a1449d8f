"""The guide's import path for `slipstream.monitoring`."""

from slipstream.monitoring.performance_alerts import PerformanceAlerts
from slipstream.monitoring.performance_monitor import PerformanceMonitor
from slipstream.monitoring.throughput import ThroughputMonitor

__all__ = ["PerformanceAlerts", "PerformanceMonitor", "ThroughputMonitor"]
