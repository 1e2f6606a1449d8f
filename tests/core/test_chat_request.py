"""Reading a request body: raw fields, byte for byte, and nothing ambiguous."""

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.chat import Route, join, parse
from slipstream.core.errors import BadRequest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text(min_size=1, max_size=8).filter(
    lambda name: (
        name not in ("model", "stream", "user", "max_tokens", "max_completion_tokens", "stream_options")
    )
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=5).map(
    lambda fields: {"messages": [], **fields, "prompt": ""}
)
LAYOUTS = st.sampled_from(
    [
        {"separators": (",", ":")},
        {},
        {"indent": 3},
        {"separators": (" ,\t", "\r\n:  ")},
        {"ensure_ascii": False},
    ]
)


@given(OBJECTS, LAYOUTS)
def test_fields_are_kept_raw(fields: dict[str, object], layout: dict[str, object]) -> None:
    """However an object is laid out, every field comes back with its value, and the body is untouched."""
    body = json.dumps(fields, **layout).encode()
    request = parse(Route.COMPLETIONS, body)
    assert {name: msgspec.json.decode(raw) for name, raw in request.fields.items()} == json.loads(body)
    assert request.body is body
    assert json.loads(join(request.fields)) == json.loads(body)


@given(OBJECTS, LAYOUTS, st.data())
def test_a_field_given_twice_is_refused(
    fields: dict[str, object], layout: dict[str, object], data: st.DataObject
) -> None:
    """A duplicate is found in any layout, at any place, with any value: no two readers may disagree."""
    comma, colon = layout.get("separators", (", ", ": "))
    pairs = [(json.dumps(name), json.dumps(value)) for name, value in fields.items()]
    name = data.draw(st.sampled_from(pairs))[0]
    value = data.draw(JSON.map(json.dumps))
    pairs.insert(data.draw(st.integers(0, len(pairs))), (name, value))
    body = "{" + comma.join(f"{one}{colon}{two}" for one, two in pairs) + "}"
    with pytest.raises(BadRequest) as refused:
        parse(Route.COMPLETIONS, body.encode())
    assert refused.value.code == "duplicate_field"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever comes, the answer is a request or a 4xx."""
    with contextlib.suppress(BadRequest):
        parse(Route.CHAT, body)


@given(OBJECTS, LAYOUTS)
def test_a_field_is_spliced_in_front(fields: dict[str, object], layout: dict[str, object]) -> None:
    """Adding a field leaves every other byte as it was."""
    request = parse(Route.COMPLETIONS, json.dumps(fields, **layout).encode())
    added = request.adding("stream_options", b'{"include_usage":true}')
    assert json.loads(added.body) == {**json.loads(request.body), "stream_options": {"include_usage": True}}
    assert added.body.endswith(request.body[1:])
    assert "stream_options" not in request.fields


def test_replacing_a_field() -> None:
    """A replaced field is re-joined with the others raw; None leaves one out."""
    request = parse(Route.CHAT, b'{"model": "a", "messages": [ 1.50 ], "n": 1}')
    assert request.replacing({"model": b'"b"', "n": None}).body == b'{"model":"b","messages":[ 1.50 ]}'


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", "invalid_json"),
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"messages":[]} x', "invalid_json"),
        (b'{"messages":[],"temperature":NaN}', "invalid_json"),
        (b'{"messages":["\xff"]}', "invalid_utf8"),
        (b"{}", "missing_field"),
        (b'{"messages":{}}', "wrong_type"),
        (b'{"messages":[],"stream":1}', "wrong_type"),
        (b'{"messages":[],"model":[]}', "wrong_type"),
        (b'{"messages":[],"max_tokens":1.5}', "wrong_type"),
        (b"{%b}" % b",".join(b'"k%d":1' % n for n in range(1001)), "too_many_fields"),
        (b"{%b}" % b", ".join(b'"k%d": 1' % n for n in range(9000)), "too_many_fields"),
        (b"{%b}" % b",".join([b'"k":1'] * 9000), "too_many_fields"),
        (b'{"messages":[],"%b":1}' % (b"a" * 257), "field_name_too_long"),
        (b'{"messages":[],"%b":1}' % (b"a" * 20_000), "field_name_too_long"),
        (b'{"messages":[],"%b":1}' % (b"\\u0061" * 5_000), "field_name_too_long"),
        (b'{"messages":[]%b}' % (b" " * 70_000), "too_much_space"),
        (b'{"messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "too_deep"),
    ],
)
def test_what_is_refused_and_why(body: bytes, code: str) -> None:
    """Each kind of malformed body has its code."""
    with pytest.raises(BadRequest) as refused:
        parse(Route.CHAT, body)
    assert refused.value.code == code


def test_the_most_that_is_read() -> None:
    """A thousand fields, names of 256 letters and a large body between them are read as they came."""
    names = [b"messages", b"\xc3\xa9" * 256, *(b"k%d" % n for n in range(998))]
    body = b"{%b}" % b" , ".join(b'"%b" : [ "%b" ]' % (name, b"x" * 20) for name in names)
    request = parse(Route.CHAT, body)
    assert len(body) > 16 * 1024
    assert {name: bytes(raw) for name, raw in request.fields.items()} == {
        name.decode(): b'[ "%b" ]' % (b"x" * 20) for name in names
    }
    assert all(type(name) is str for name in request.fields)
    assert json.loads(join(request.fields)) == json.loads(body)


def test_a_large_field_given_twice_is_refused() -> None:
    """Also where the body is decoded with a count."""
    large = b'"x":"%b"' % (b"a" * 20_000)
    with pytest.raises(BadRequest) as refused:
        parse(Route.CHAT, b'{"messages":[],%b,%b}' % (large, large))
    assert refused.value.code == "duplicate_field"
