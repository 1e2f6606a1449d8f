"""Our protobuf, read by Google's: every kind of field comes back as it was given."""

from hypothesis import given
from hypothesis import strategies as some
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint

from slipstream.monitoring.protobuf import Field, delimited, encode, varint

BUCKETS = {"offset": Field(1, "sint64"), "bucket_counts": Field(2, "uint64", repeated=True)}
POINT = {
    "start_time_unix_nano": Field(2, "fixed64"), "count": Field(4, "fixed64"), "sum": Field(5, "double"),
    "scale": Field(6, "sint64"), "zero_count": Field(7, "fixed64"), "positive": Field(8, BUCKETS),
    "flags": Field(10, "uint64"),
}  # fmt: skip
ANY = {"string_value": Field(1, "string"), "bool_value": Field(2, "bool"), "bytes_value": Field(7, "bytes")}
U64 = some.integers(0, 2**64 - 1)


@given(
    start=U64, count=U64, total=some.floats(allow_nan=False), scale=some.integers(-(2**31), 2**31 - 1),
    offset=some.integers(-(2**31), 2**31 - 1), counts=some.lists(U64), flags=some.integers(0, 2**32 - 1),
)  # fmt: skip
def test_numbers_and_messages(
    start: int, count: int, total: float, scale: int, *, offset: int, counts: list[int], flags: int
) -> None:
    """Fixed, variable, zigzag and packed numbers, and a message inside a message."""
    written = encode(
        {
            "start_time_unix_nano": start, "count": count, "sum": total, "scale": scale,
            "positive": {"offset": offset, "bucket_counts": counts}, "flags": flags,
        },
        POINT,
    )  # fmt: skip
    point = ExponentialHistogramDataPoint.FromString(written)

    assert (point.start_time_unix_nano, point.count, point.sum) == (start, count, total)
    assert (point.scale, point.positive.offset, point.flags) == (scale, offset, flags)
    assert list(point.positive.bucket_counts) == counts


@given(some.text(), some.booleans(), some.binary())
def test_texts_flags_and_bytes(text: str, flag: bool, content: bytes) -> None:
    """Any text, half a surrogate included, and any bytes."""
    assert AnyValue.FromString(encode({"string_value": text}, ANY)).string_value == (
        text.encode("utf-8", "replace").decode()
    )
    assert AnyValue.FromString(encode({"bool_value": flag}, ANY)).bool_value is flag
    assert AnyValue.FromString(encode({"bytes_value": content}, ANY)).bytes_value == content


def test_lengths() -> None:
    """A stream of messages has each one's length before it."""
    assert delimited(b"x" * 300) == b"\xac\x02" + b"x" * 300
    assert varint(-1) == b"\xff" * 9 + b"\x01"
