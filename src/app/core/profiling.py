"""The guide's import path for `slipstream.profiling`."""

from slipstream.profiling import ResponseTimeProfiler, cpu_profiler, memory_profiler

__all__ = ["ResponseTimeProfiler", "cpu_profiler", "memory_profiler"]
