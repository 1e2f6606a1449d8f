"""The guide's import path for `slipstream.profiling`."""

from slipstream.profiling import ResponseTimeProfiler

__all__ = ["ResponseTimeProfiler"]
