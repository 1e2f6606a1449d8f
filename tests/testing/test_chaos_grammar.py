"""The grammar of faults: what is written is read back, and every mistake says what is wrong."""

import contextlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.errors import ConfigurationError
from slipstream.testing.chaos_faults import Bandwidth, HttpStatus, Latency, SseReset
from slipstream.testing.chaos_grammar import KINDS, form, parse

DOCS = Path(__file__).parents[2] / "docs" / "chaos.md"
LEAST = {"latency": "ms=5", "bandwidth": "bytes_per_second=9", "slow_close": "ms=5", "limit_data": "bytes=7"}
"""The options that have no default."""


def lines() -> st.SearchStrategy[str]:
    return st.text(st.characters(min_codepoint=32, max_codepoint=126, blacklist_characters='"'), max_size=30)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value that an option of this type may have."""
    match kind:
        case msgspec.inspect.FloatType():
            return st.floats(kind.ge or 0, min(kind.le or 1e6, 1e6), allow_nan=False)
        case msgspec.inspect.IntType():
            return st.integers(kind.ge or 0, kind.le or 10**6)
        case msgspec.inspect.LiteralType():
            return st.sampled_from(kind.values)
        case msgspec.inspect.UnionType():
            return st.one_of([values(each) for each in kind.types])
        case msgspec.inspect.StrType():
            names = st.from_regex(r"[A-Za-z0-9_.-]{0,64}", fullmatch=True)
            return names if "0,64" in (kind.pattern or "") else lines()
    raise AssertionError(kind)


@st.composite
def any_fault(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(sorted(KINDS)))
    info = msgspec.inspect.type_info(KINDS[kind])
    fields = {
        field.encode_name: draw(values(field.type))
        for field in info.fields
        if field.required or draw(st.booleans())
    }
    if fields.get("to"):
        fields["to"] = fields.get("from", 0) + fields["to"] + 1
    return msgspec.convert({"kind": kind, **fields}, KINDS[kind])


@settings(deadline=None)  # a busy machine is no failure
@given(any_fault())
def test_every_fault_is_read_back_as_it_was_written(fault):
    """`parse(form(fault)) == fault`, whatever its options."""
    assert parse(form(fault)) == fault


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_needs_no_more_than_its_name_and_what_has_no_default(kind):
    """The shortest line of each kind is valid."""
    assert parse(",".join(filter(None, [kind, LEAST.get(kind)]))).kind == kind


def test_the_examples_of_the_command_line():
    """Direction, position and options come out as fields."""
    assert parse("latency:down,ms=200,jitter=50") == Latency(ms=200, jitter=50)
    assert parse(" bandwidth:up , bytes_per_second=1e3 ") == Bandwidth(direction="up", bytes_per_second=1000)
    assert parse("sse_reset@3,rate=0.1,from=10,to=20") == SseReset(at=3, rate=0.1, start=10, end=20)
    assert parse('http_status,code=503,retry_after="Wed, 21 Oct 2026 07:28:00 GMT"') == HttpStatus(
        retry_after="Wed, 21 Oct 2026 07:28:00 GMT"
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "Not a fault"),
        ("lag,ms=3", "There are: refuse, latency"),
        ("latency", "required field `ms`"),
        ("latency,ms=-1", ">= 0"),
        ("latency,ms=nan", ">= 0"),
        ("latency,ms=inf", "<= 86400000"),
        ("latency,ms=5,ms=6", "'ms=6'"),
        ("latency,ms=5,kind=split", "'kind=split'"),
        ("latency:up,ms=5,direction=down", "'direction=down'"),
        ("latency,ms=5,color=red", "Its options: name, rate"),
        ("latency:left,ms=5", "'left'"),
        ("latency@3,ms=5", "no @ position"),
        ("http_hang:up", "no direction"),
        ("sse_half@done", "Expected `int`"),
        ("sse_reset@end", "sse_reset"),
        ("split,rate=1.5", "<= 1"),
        ("split,from=5,to=3", "before it begins"),
        ("http_redirect,location=x\r\nset-cookie: a", "regex"),
        ("split," + "a" * 3000, "2048"),
        ("split,name=a b", "regex"),
    ],
)
def test_a_mistake_says_what_is_wrong(line, says):
    """One configuration error, with the fault's name or the way out."""
    with pytest.raises(ConfigurationError) as caught:
        parse(line)
    assert says in str(caught.value)


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(max_size=60))
def test_any_text_is_a_fault_or_a_configuration_error(text):
    """Nothing else escapes."""
    with contextlib.suppress(ConfigurationError):
        assert parse(text).kind in KINDS


def test_the_manual_names_every_kind_and_every_option():
    """A fault or an option that docs/chaos.md does not have fails the build."""
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for kind, fault in KINDS.items():
        (row,) = [row for row in rows if row.startswith(f"| `{kind}")]
        shared = {"name", "rate", "from", "to", "times", "direction", "at", "path"}
        for field in msgspec.structs.fields(fault):
            assert field.encode_name in shared or f"`{field.encode_name}" in row, (kind, field.encode_name)


def test_every_fault_in_the_manual_is_valid():
    """What the manual tells to type is of the grammar."""
    text = DOCS.read_text(encoding="utf-8")
    found = re.findall(r"""--fault (?:'([^']+)'|([a-z][^\s`]+))""", text)
    assert len(found) > 8
    for quoted, plain in found:
        parse(quoted or plain)


def test_the_example_in_the_manual_runs():
    """As printed."""
    (block,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, "docs/chaos.md", "exec"), {})
