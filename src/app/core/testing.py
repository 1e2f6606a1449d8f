"""The guide's import path of the load and stress testers: re-exports, nothing else."""

from slipstream.testing.load.stress import StressTester
from slipstream.testing.load.tester import LoadTester

__all__ = ["LoadTester", "StressTester"]
