"""Where the time and the memory go: profilers that are usable alone, on any Python program."""

from slipstream.profiling.cpu import CpuProfiler, cpu_profiler
from slipstream.profiling.cpu_profile import CpuProfile
from slipstream.profiling.memory import MemoryProfiler, memory_profiler
from slipstream.profiling.memory_profile import MemoryProfile
from slipstream.profiling.profile_data import ProfileData
from slipstream.profiling.resources import ResourceProfiler, UseReport, UseSnapshot
from slipstream.profiling.response_time import ResponseTimeProfiler
from slipstream.profiling.step_timing import Bottleneck, StepTiming

__all__ = [
    "Bottleneck",
    "CpuProfile",
    "CpuProfiler",
    "MemoryProfile",
    "MemoryProfiler",
    "ProfileData",
    "ResourceProfiler",
    "ResponseTimeProfiler",
    "StepTiming",
    "UseReport",
    "UseSnapshot",
    "cpu_profiler",
    "memory_profiler",
]
