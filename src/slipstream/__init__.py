"""Slipstream: the performance layer for AI assistants.

The public names load what they need when they are first used; `import slipstream` itself loads nothing
beyond the standard library.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from slipstream.library import agenerate_response, generate_response, model
    from slipstream.optimization.preprocess import (
        fast_preprocess,
        postprocess_response,
        preprocess_prompt,
        preprocessing_cache,
    )

_WHERE = {
    "model": "slipstream.library",
    "generate_response": "slipstream.library",
    "agenerate_response": "slipstream.library",
    "preprocess_prompt": "slipstream.optimization.preprocess",
    "fast_preprocess": "slipstream.optimization.preprocess",
    "preprocessing_cache": "slipstream.optimization.preprocess",
    "postprocess_response": "slipstream.optimization.preprocess",
}

__all__ = [
    "__version__",
    "agenerate_response",
    "fast_preprocess",
    "generate_response",
    "model",
    "postprocess_response",
    "preprocess_prompt",
    "preprocessing_cache",
]


def __getattr__(name: str) -> object:
    import importlib

    if name not in _WHERE:
        raise AttributeError(f"module 'slipstream' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
