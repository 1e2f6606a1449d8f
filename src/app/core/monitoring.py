"""The guide's import path for `slipstream.monitoring`."""

from slipstream.dashboard.performance_dashboard import PerformanceDashboard
from slipstream.monitoring.performance_alerts import PerformanceAlerts
from slipstream.monitoring.performance_monitor import PerformanceMonitor
from slipstream.monitoring.throughput import ThroughputMonitor

__all__ = ["PerformanceAlerts", "PerformanceDashboard", "PerformanceMonitor", "ThroughputMonitor"]
