"""What goes to standard error: readable lines on a terminal, JSON lines elsewhere, one event a line.

Control characters in what is logged are escaped, so that nobody outside can forge a line or steer a
terminal. Message text is the callers' duty: it is never passed to a logger.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from slipstream.config.settings import Log

LINE_CHARACTERS_MAX = 8192
"""A longer message is cut; the cut is marked with its length."""

_COLOURS = {"debug": "2", "info": "36", "warning": "33", "error": "31", "critical": "1;31"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LINE_ENDS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_FOREIGN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio")


def set_up_logs(log: Log, *, stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Send the logs of this process to `stream` (standard error) as the settings ask. May be called again.

    Loggers of the server below us lose their own handlers and join ours. `NO_COLOR`, `FORCE_COLOR` and
    `TERM=dumb` are heeded.
    """
    stream = sys.stderr if stream is None else stream
    environ = os.environ if environ is None else environ
    readable = log.format == "text" or (log.format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines(coloured=takes_colour(stream, environ)) if readable else JsonLines())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, TextLines | JsonLines):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.getLevelNamesMapping()[log.level.upper()])
    for name in _FOREIGN:
        foreign = logging.getLogger(name)
        foreign.handlers.clear()
        foreign.propagate = True
        foreign.setLevel(logging.NOTSET)  # ours decides, whatever somebody set before
    # Every request has its record; a second account of it here would only cost.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)


def takes_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to colour what is written to `stream` (https://no-color.org, https://force-color.org)."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environ.get("TERM") != "dumb"


def escaped(text: str) -> str:
    """`text` on one line: control characters, line ends and half characters as escapes."""
    return _CONTROL.sub(_escape, text)


class TextLines(logging.Formatter):
    """`12:30:01.250 info    slipstream.server  text  key=value`; a traceback follows, indented."""

    def __init__(self, *, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        """One event as a line; UTC would surprise on a terminal, so the time is local."""
        moment = datetime.fromtimestamp(record.created, UTC).astimezone()
        level = record.levelname.lower()
        shown = f"{level:<8}"
        if self._coloured and level in _COLOURS:
            shown = f"\x1b[{_COLOURS[level]}m{shown}\x1b[0m"
        line = f"{moment:%H:%M:%S}.{int(record.msecs):03d} {shown} {_name(record)}  {_message(record)}"
        for key, value in _extras(record).items():
            line += f"  {key}={escaped(str(value))}"
        trace = _trace(self, record)
        return line + "".join(f"\n    {escaped(each)}" for each in trace.splitlines())


class JsonLines(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339), `level`, `logger`, `message`, the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One event as a line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        event: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": _name(record),
            "message": _message(record),
        }
        for key, value in _extras(record).items():
            event.setdefault(
                escaped(key), value if isinstance(value, int | float | None) else escaped(str(value))
            )
        if trace := _trace(self, record):
            event["traceback"] = [escaped(line) for line in trace.splitlines()]
        return msgspec.json.encode(event).decode()


def _name(record: logging.LogRecord) -> str:
    return "slipstream.http" if record.name.startswith("uvicorn") else escaped(record.name)


def _message(record: logging.LogRecord) -> str:
    text = escaped(record.getMessage())
    if len(text) <= LINE_CHARACTERS_MAX:
        return text
    return f"{text[:LINE_CHARACTERS_MAX]}... ({len(text)} characters)"


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    trace = formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
    return trace + ("\n" + formatter.formatStack(record.stack_info) if record.stack_info else "")


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _LINE_ENDS.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
