"""The guide's import path for `slipstream.profiling`."""

from slipstream.profiling import ResourceProfiler, ResponseTimeProfiler, cpu_profiler, memory_profiler

__all__ = ["ResourceProfiler", "ResponseTimeProfiler", "cpu_profiler", "memory_profiler"]
