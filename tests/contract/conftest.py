"""The real embedded model, running beside the tests."""

from models.conftest import embedded

__all__ = ["embedded"]
