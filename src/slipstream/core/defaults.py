"""What a toolbox uses of another one unless it is told otherwise, by name: "module:factory".

Toolboxes do not import each other; what one needs of the rest of the house is built by the wiring, and this
table is the one stated exception to importing by name. It does no I/O. A test resolves every row; tests may
put rows of their own in.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

from slipstream.core.use import UseRow

TABLE: dict[str, str] = {
    "resource_rows": "slipstream.wiring:resource_rows",
}
"""Name -> where its factory is."""

Rows = Callable[[], Sequence[UseRow]]


def factory(name: str) -> Callable[[], object]:
    """The factory of a row. A name that is not in the table is a mistake of ours."""
    module, _, attribute = TABLE[name].partition(":")
    return cast("Callable[[], object]", getattr(import_module(module), attribute))


def resource_rows() -> Rows:
    """Gives the rows of CPU, memory, disk and network of this process, from one call to the next."""
    return cast("Rows", factory("resource_rows")())
