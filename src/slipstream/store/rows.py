"""A record as the row that stores it, and back. It knows the columns, and no database.

Workers send rows rather than records: the supervisor, which has one for each request of all of them, only
reads a list and hands it to the store (4 us instead of 10).
"""

import operator
from collections.abc import Sequence

import msgspec

from slipstream.core.errors import StoreFailed
from slipstream.core.record import Record, Step
from slipstream.store.values import DAMAGED, ROW_REFUSED, Value

Row = list[Value]
"""The values of `COLUMNS`, in their order; steps are packed."""

COLUMNS = Record.__struct_fields__
TEXT_MAX = 256
"""Longer text in a record, such as the model that a caller asked for, is cut to this many characters."""

_INTEGER_MAX = 2**63 - 1
_DEFAULTS = msgspec.structs.astuple(Record())
_ID = COLUMNS.index("id")
_STEPS = COLUMNS.index("steps")
_COST = COLUMNS.index("cost")
_TEXTS = tuple(at for at, value in enumerate(_DEFAULTS) if isinstance(value, str))
_FLAGS = tuple(at for at, value in enumerate(_DEFAULTS) if isinstance(value, bool))
_INTEGERS = tuple(at for at in range(len(COLUMNS)) if at not in {*_TEXTS, *_FLAGS, _STEPS, _COST})

_texts_of = operator.itemgetter(*_TEXTS)
_integers_of = operator.itemgetter(*_INTEGERS)
_pack_steps = msgspec.msgpack.Encoder().encode
_unpack_steps = msgspec.msgpack.Decoder(list[Step]).decode


def to_row(record: Record) -> Row:
    """The columns of a record. What no column can hold is brought into its range, rather than refused.

    Text is cut at `TEXT_MAX` and what is not Unicode in it replaced; whole numbers are held within
    64 bits; a cost that is not a number becomes None. Raises `StoreFailed` for a field of a wrong type.
    """
    values = list(msgspec.structs.astuple(record))
    try:
        text = "".join(_texts_of(values))
        if len(text) > TEXT_MAX or not text.isascii():
            _fit_texts(values)
        numbers = [number for number in _integers_of(values) if number is not None]
        if max(numbers) > _INTEGER_MAX or min(numbers) < -_INTEGER_MAX:
            _fit_integers(values)
        values[_STEPS] = _pack_steps(record.steps)
    except (TypeError, AttributeError, ValueError, OverflowError) as error:
        raise StoreFailed(f"The record {record.id!r} cannot be stored: {error}.", code=ROW_REFUSED) from error
    return values


def from_row(row: Sequence[Value]) -> Record:
    """The record that `to_row` made `row` of. Raises `StoreFailed` for what it cannot have made."""
    values: list[object] = list(row)
    try:
        packed = row[_STEPS]
        values[_STEPS] = _unpack_steps(packed if isinstance(packed, bytes) else b"")
        for at in _FLAGS:
            values[at] = bool(values[at])
        return msgspec.convert(dict(zip(COLUMNS, values, strict=True)), Record)
    except (msgspec.DecodeError, TypeError, ValueError) as error:  # not Unicode is a ValueError
        raise StoreFailed(f"The record {row[0]!r} cannot be read: {error}.", code=DAMAGED) from error


def id_of(item: Record | Row) -> Value:
    """The request's id, of a record or of its row."""
    return item.id if isinstance(item, Record) else item[_ID]


def _fit_texts(values: list[object]) -> None:
    for at in _TEXTS:
        text = values[at]
        assert isinstance(text, str)
        if len(text) > TEXT_MAX or not text.isascii():
            values[at] = text[:TEXT_MAX].encode("utf-8", "replace").decode()


def _fit_integers(values: list[object]) -> None:
    for at in _INTEGERS:
        number = values[at]
        if isinstance(number, int):
            values[at] = max(-_INTEGER_MAX, min(number, _INTEGER_MAX))
