"""Where the time and the memory go: profilers that are usable alone, on any Python program."""

from slipstream.profiling.profile_data import Bottleneck, ProfileData, StepTiming
from slipstream.profiling.response_time import ResponseTimeProfiler

__all__ = ["Bottleneck", "ProfileData", "ResponseTimeProfiler", "StepTiming"]
