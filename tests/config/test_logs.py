"""The lines of the log: one event a line, nothing forged, readable or JSON."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.config.logs import (
    LINE_CHARACTERS_MAX,
    JsonLines,
    TextLines,
    escaped,
    set_up_logs,
    takes_colour,
)
from slipstream.config.settings import Log


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The process's logging is as before when a test ends."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It says so."""
        return True


def logged(kind: Literal["auto", "text", "json"] = "json", *, to: io.StringIO | None = None) -> io.StringIO:
    stream = to or io.StringIO()
    set_up_logs(Log(format=kind), stream=stream, environ={})
    return stream


def test_json_lines_say_what_happened() -> None:
    """Time, level, logger, message and the event's own fields."""
    stream = logged()
    logging.getLogger("slipstream.test").warning("worker %d died", 3, extra={"slot": 3, "signal": "SIGKILL"})
    event = json.loads(stream.getvalue())

    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "warning",
        "logger": "slipstream.test",
        "message": "worker 3 died",
        "slot": 3,
        "signal": "SIGKILL",
    }


def test_fields_of_an_event_cannot_replace_ours() -> None:
    """A field named like one of the line's own is dropped rather than believed."""
    stream = logged()
    logging.getLogger("slipstream.test").warning("real", extra={"level": "debug", "time": "never"})
    event = json.loads(stream.getvalue())

    assert (event["level"], event["message"]) == ("warning", "real")
    assert event["time"] != "never"


@pytest.mark.parametrize("kind", ["text", "json"])
def test_nothing_forges_a_line(kind: Literal["text", "json"]) -> None:
    """Line ends and escape sequences from outside come out as escapes, in text, fields and names."""
    stream = logged(kind)
    hostile = "/x\r\n12:00 error\x1b[2J\u2028"
    logging.getLogger("slipstream.test").warning("path %s", hostile, extra={"field": "a\nb\x1b"})
    said = stream.getvalue()

    assert said.count("\n") == 1
    assert not set("\r\x1b\u2028") & set(said)
    assert "/x" in said


@given(st.text())
def test_escaped_text_is_one_harmless_line(text: str) -> None:
    """Whatever is escaped has no control character and no line end, and can be encoded."""
    said = escaped(text)

    assert said.encode() is not None
    assert len(said.splitlines()) <= 1
    assert not any(each < " " or "\x7f" <= each <= "\x9f" for each in said)


def test_long_message_is_cut() -> None:
    """A message without end fills one line and no more."""
    stream = logged()
    logging.getLogger("slipstream.test").warning("x" * 100_000)

    assert len(stream.getvalue()) < LINE_CHARACTERS_MAX + 300
    assert "(100000 characters)" in stream.getvalue()


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines(coloured=False)])
def test_traceback_is_kept(formatter: logging.Formatter) -> None:
    """An error comes with its traceback, whose text is escaped as well."""
    try:
        raise ValueError("bad\x1b\nworse")
    except ValueError:
        found = sys.exc_info()
    record = logging.LogRecord("slipstream", logging.ERROR, __file__, 1, "failed", (), exc_info=found)
    said = formatter.format(record)

    assert "test_traceback_is_kept" in said
    assert "\x1b" not in said


def test_format_follows_the_stream() -> None:
    """`auto`: readable on a terminal, JSON elsewhere."""
    terminal, pipe = logged("auto", to=Terminal()), io.StringIO()
    logging.getLogger("slipstream.test").warning("seen")
    set_up_logs(Log(), stream=pipe, environ={})
    logging.getLogger("slipstream.test").warning("seen")

    assert "\x1b[33mwarning" in terminal.getvalue()
    assert json.loads(pipe.getvalue())["message"] == "seen"


@pytest.mark.parametrize(
    ("environ", "terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colour(environ: dict[str, str], terminal: bool, expected: bool) -> None:
    """Colour on a terminal that takes it, unless somebody asked otherwise."""
    assert takes_colour(Terminal() if terminal else io.StringIO(), environ) is expected


def test_server_below_us_joins_in() -> None:
    """The HTTP server's own loggers say their part in our lines, once, and keep no account of requests."""
    logging.getLogger("uvicorn.error").addHandler(logging.StreamHandler(io.StringIO()))
    stream = logged()
    logged(to=stream)
    logging.getLogger("uvicorn.error").warning("started")
    logging.getLogger("uvicorn.access").info("GET /")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert [(line["logger"], line["message"]) for line in lines] == [("slipstream.http", "started")]


def test_level_is_heeded() -> None:
    """What is below the level of the settings is not said."""
    stream = io.StringIO()
    set_up_logs(Log(level="error"), stream=stream, environ={})
    logging.getLogger("slipstream.test").warning("hush")

    assert stream.getvalue() == ""
