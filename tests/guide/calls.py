"""The guide's call list: what each of its Python blocks imports, builds, defines and calls, without its text.

`calls.json` beside this file is that list, made from the guide with

    python tests/guide/calls.py ../shared/guide/performance-troubleshooting-guide.md

and proved equal to the guide wherever the guide stands beside the checkout.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

LIST = Path(__file__).with_name("calls.json")
NAMES = (
    "monitor", "dashboard", "response_time_profiler", "preprocessing", "batching", "streaming",
    "resource_profiler", "memory_pool", "data_structures", "rate_limiter", "throughput", "connection_pool",
    "concurrency", "queries", "tokens", "model_selector", "smart_cache", "load_test", "stress_test", "alerts",
    "reports",
)  # fmt: skip
"""Our names for the guide's blocks, in its order."""

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Call(Struct, frozen=True, omit_defaults=True):
    """One call of the guide."""

    callee: str
    arguments: tuple[str, ...] = ()
    """As printed; `name=value` by keyword."""
    how: str = "call"
    """`call`, `await`, `with`, `for`, `async for`, `async with` or `decorator`."""


class Block(Struct, frozen=True):
    """What one block asks of the product."""

    name: str
    sha256: str
    imports: tuple[str, ...]
    """`module:name`, or `module`."""
    objects: dict[str, str]
    """Variable of the block -> the class that it is built from."""
    defines: tuple[str, ...]
    """Functions."""
    calls: tuple[Call, ...]


class CallList(Struct, frozen=True):
    """The whole guide."""

    sha256: str
    blocks: tuple[Block, ...]


def stored() -> CallList:
    """The list that the project keeps."""
    return msgspec.json.decode(LIST.read_bytes(), type=CallList)


def texts(guide: str) -> dict[str, str]:
    """The guide's blocks by our names for them."""
    return dict(zip(NAMES, _BLOCK.findall(guide), strict=True))


def read(guide: str) -> CallList:
    """The call list of a guide."""
    return CallList(_sha256(guide), tuple(_block(name, text) for name, text in texts(guide).items()))


def _block(name: str, text: str) -> Block:
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    return Block(
        name=name,
        sha256=_sha256(text),
        imports=tuple(_imports(tree)),
        objects={
            ast.unparse(node.targets[0]): ast.unparse(node.value.func)
            for node in tree.body
            if isinstance(node, ast.Assign)
            if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
        },
        defines=tuple(
            node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ),
        calls=tuple(sorted(_calls(nodes), key=lambda call: (call.callee, call.arguments))),
    )


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}:{each.name}" for each in node.names)


def _calls(nodes: list[ast.AST]) -> Iterator[Call]:
    how = _ways(nodes)
    for node in nodes:
        if isinstance(node, ast.Call):
            keywords = [f"{each.arg}={ast.unparse(each.value)}" for each in node.keywords]
            arguments = (*(ast.unparse(each) for each in node.args), *keywords)
            yield Call(ast.unparse(node.func), arguments, how.get(node, "call"))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if not isinstance(decorator, ast.Call):
                    yield Call(ast.unparse(decorator), (node.name,), "decorator")


def _ways(nodes: list[ast.AST]) -> dict[ast.AST, str]:
    """How calls are used that stand in a special place."""
    how: dict[ast.AST, str] = {}
    for node in nodes:
        match node:
            case ast.Await():
                how[node.value] = "await"
            case ast.With() | ast.AsyncWith():
                way = "with" if isinstance(node, ast.With) else "async with"
                how.update({item.context_expr: way for item in node.items})
            case ast.For():
                how[node.iter] = "for"
            case ast.AsyncFor():
                how[node.iter] = "async for"
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                how.update(dict.fromkeys(node.decorator_list, "decorator"))
    return how


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _printed(found: CallList) -> bytes:
    """One call a line."""
    text = msgspec.json.encode(found).decode()
    return re.sub(r'(\{"(?:name|callee)")', r"\n\1", text).encode()


if __name__ == "__main__":
    found = read(Path(sys.argv[1]).read_text(encoding="utf-8"))
    LIST.write_bytes(_printed(found) + b"\n")
