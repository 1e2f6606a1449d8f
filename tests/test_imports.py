"""What importing costs: nothing but the standard library and ourselves."""

import json
import subprocess
import sys

SHOWN = """
import sys, json
before = set(sys.modules)
import slipstream
for name in sorted(slipstream.__all__): assert name in dir(slipstream)
print(json.dumps(sorted(set(sys.modules) - before)))
"""
OURS = {"slipstream", "app"}


def modules_after(program: str) -> list[str]:
    """The modules that a fresh interpreter loads for a program."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def test_import_loads_no_module_of_others() -> None:
    """`import slipstream` loads no module beyond the standard library and ours."""
    tops = {name.partition(".")[0] for name in modules_after(SHOWN)}

    assert tops - OURS - sys.stdlib_module_names == set()


def test_import_loads_hardly_anything_of_ours() -> None:
    """`import slipstream` loads no part of the product before it is used."""
    ours = [name for name in modules_after(SHOWN) if name.startswith("slipstream")]

    assert ours == ["slipstream"]


def test_public_names_resolve() -> None:
    """Every name in `__all__` is there when asked for, and a wrong one is an AttributeError."""
    import slipstream

    for name in slipstream.__all__:
        assert getattr(slipstream, name) is not None
    assert not hasattr(slipstream, "no_such_name")
