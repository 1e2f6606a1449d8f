"""The vocabulary of the fault proxy: one frozen struct a fault, its options with their units and ranges.

What a fault does stands elsewhere: `chaos_toxics` for bytes, `chaos_response` for HTTP and SSE.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

Milliseconds = Annotated[float, Meta(ge=0, le=86_400_000)]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
BytesPerSecond = Annotated[float, Meta(ge=1, le=1e12)]
Size = Annotated[int, Meta(ge=1, le=1 << 40)]
Line = Annotated[str, Meta(max_length=512, pattern=r"^[\x20\x21\x23-\x7e]*\Z")]
"""Text for a header: printable ASCII, so that it brings no line of its own; no double quote, see `form`."""


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every fault has: a name, a share of the traffic it strikes, and a time window."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}\Z")] = ""
    """Key of its count and of its dice; empty = given by the proxy, such as `latency_down`."""
    rate: Share = 1.0
    """Share of connections (toxics) or responses (HTTP and SSE faults) that it strikes."""
    start: Seconds = field(default=0.0, name="from")
    """Seconds after it was set at which it begins."""
    end: Seconds = field(default=0.0, name="to")
    """Seconds after it was set at which it ends; 0 = never."""
    times: Annotated[int, Meta(ge=0)] = 0
    """Most connections or responses that it strikes; 0 = no bound."""

    @property
    def kind(self) -> str:
        """Its name in the grammar."""
        return str(self.__struct_config__.tag)

    @property
    def label(self) -> str:
        """What it is called where the user gave no name."""
        return self.name or self.kind


class Refuse(Fault, frozen=True, kw_only=True, tag="refuse"):
    """New connections are reset, closed at once, or not accepted at all (`stop`: connection refused)."""

    mode: Literal["reset", "close", "stop"] = "reset"


class Toxic(Fault, frozen=True, kw_only=True):
    """A fault on the bytes of one direction: `up` to the upstream, `down` to the client."""

    direction: Literal["up", "down"] = "down"

    @property
    def label(self) -> str:
        """What it is called where the user gave no name."""
        return self.name or f"{self.kind}_{self.direction}"


class Latency(Toxic, frozen=True, kw_only=True, tag="latency"):
    """Everything comes `ms` later, give or take `jitter`; order is kept."""

    ms: Milliseconds
    jitter: Milliseconds = 0.0


class Bandwidth(Toxic, frozen=True, kw_only=True, tag="bandwidth"):
    """Bytes pass no faster than `bytes_per_second`."""

    bytes_per_second: BytesPerSecond


class SlowClose(Toxic, frozen=True, kw_only=True, tag="slow_close"):
    """The end of the stream comes `ms` late."""

    ms: Milliseconds


class Timeout(Toxic, frozen=True, kw_only=True, tag="timeout"):
    """Nothing passes; the connection is closed after `ms`, or held until the fault goes (0)."""

    ms: Milliseconds = 0.0


class ResetPeer(Toxic, frozen=True, kw_only=True, tag="reset_peer"):
    """RST after `ms`, or after `size` bytes in this direction, whichever is first; both 0 = at once."""

    ms: Milliseconds = 0.0
    size: Annotated[int, Meta(ge=0)] = field(default=0, name="bytes")


class Slicer(Toxic, frozen=True, kw_only=True, tag="slicer"):
    """The stream is cut to pieces of `size` bytes, give or take `variation`, `delay_us` apart."""

    size: Size = 64
    variation: Annotated[int, Meta(ge=0)] = 0
    delay_us: Annotated[float, Meta(ge=0, le=60_000_000)] = 0.0


class Split(Toxic, frozen=True, kw_only=True, tag="split"):
    """The stream is cut at random points, `mean` bytes apart on average; 1 = at every byte."""

    mean: Size = 16
    delay_us: Annotated[float, Meta(ge=0, le=60_000_000)] = 0.0


class LimitData(Toxic, frozen=True, kw_only=True, tag="limit_data"):
    """The connection is closed after `bytes` in this direction."""

    size: Annotated[int, Meta(ge=0)] = field(name="bytes")


class HttpFault(Fault, frozen=True, kw_only=True):
    """A fault on a response; `path` keeps it to requests whose target begins so."""

    path: Line = ""


class HttpHang(HttpFault, frozen=True, kw_only=True, tag="http_hang"):
    """The response's head is held back for `ms`; 0 = until the fault goes."""

    ms: Milliseconds = 0.0


class HttpReset(HttpFault, frozen=True, kw_only=True, tag="http_reset"):
    """RST instead of the response: not a byte of it is sent."""


class HttpFin(HttpFault, frozen=True, kw_only=True, tag="http_fin"):
    """The connection ends cleanly instead of the response, as a stale keep-alive connection does."""


class HttpStatus(HttpFault, frozen=True, kw_only=True, tag="http_status"):
    """The answer is an error of this status, `retry_after` sent as it stands; then the connection ends."""

    code: Annotated[int, Meta(ge=200, le=599)] = 503
    retry_after: Line = ""


class HttpRedirect(HttpFault, frozen=True, kw_only=True, tag="http_redirect"):
    """The answer is a redirect to `location`; its default is a closed loopback port."""

    location: Line = "http://127.0.0.1:9/"
    code: Annotated[int, Meta(ge=300, le=399)] = 302


class HttpGarbage(HttpFault, frozen=True, kw_only=True, tag="http_garbage"):
    """Random bytes stand where the status line belongs."""


class HttpGzipBomb(HttpFault, frozen=True, kw_only=True, tag="http_gzip_bomb"):
    """The body is `mb` MiB of zeros, gzipped about 1000 : 1."""

    mb: Annotated[int, Meta(ge=1, le=65_536)] = 50


class HttpBodyFlood(HttpFault, frozen=True, kw_only=True, tag="http_body_flood"):
    """The body is `mb` MiB of spaces, made as it is read."""

    mb: Annotated[int, Meta(ge=1, le=1 << 20)] = 1024


class HttpHeaderFlood(HttpFault, frozen=True, kw_only=True, tag="http_header_flood"):
    """The head carries `count` more lines of `size` bytes each."""

    count: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    size: Annotated[int, Meta(ge=16, le=65_536)] = 64


class HttpContentType(HttpFault, frozen=True, kw_only=True, tag="http_content_type"):
    """The head claims another content type."""

    value: Line = "text/html"


class HttpTrickle(HttpFault, frozen=True, kw_only=True, tag="http_trickle"):
    """The body comes at `bytes_per_second`."""

    bytes_per_second: BytesPerSecond = 1.0


class SseFault(HttpFault, frozen=True, kw_only=True):
    """A fault on an event stream: `@k` data events pass whole, then it strikes. Comments do not count."""

    at: Annotated[int, Meta(ge=0)] = 0


class SseCut(HttpFault, frozen=True, kw_only=True):
    """A fault that breaks an event stream off after `@k` data events, or before `[DONE]` (`@done`)."""

    at: Annotated[int, Meta(ge=0)] | Literal["done"] = 0


class SseReset(SseCut, frozen=True, kw_only=True, tag="sse_reset"):
    """RST."""


class SseFin(SseCut, frozen=True, kw_only=True, tag="sse_fin"):
    """The connection ends in the middle of the body: no `[DONE]`, no last chunk."""


class SseEnd(SseCut, frozen=True, kw_only=True, tag="sse_end"):
    """The body ends as HTTP asks for, but without `[DONE]`."""


class SseHang(SseCut, frozen=True, kw_only=True, tag="sse_hang"):
    """Silence for `ms`; 0 = until the fault goes."""

    ms: Milliseconds = 0.0


class SseHalf(SseFault, frozen=True, kw_only=True, tag="sse_half"):
    """The data of event `@k` is cut off half way: half a JSON document in a whole event."""


class SseBadUtf8(SseFault, frozen=True, kw_only=True, tag="sse_bad_utf8"):
    """Bytes that are not UTF-8 stand inside the data of event `@k`."""


class SseLongLine(SseFault, frozen=True, kw_only=True, tag="sse_long_line"):
    """An event whose data is one line of `mb` MiB stands before event `@k`."""

    mb: Annotated[int, Meta(ge=1, le=1024)] = 10


class SseDoubleDone(HttpFault, frozen=True, kw_only=True, tag="sse_double_done"):
    """`[DONE]` comes twice."""


AnyFault = (
    Refuse
    | Latency
    | Bandwidth
    | SlowClose
    | Timeout
    | ResetPeer
    | Slicer
    | Split
    | LimitData
    | HttpHang
    | HttpReset
    | HttpFin
    | HttpStatus
    | HttpRedirect
    | HttpGarbage
    | HttpGzipBomb
    | HttpBodyFlood
    | HttpHeaderFlood
    | HttpContentType
    | HttpTrickle
    | SseReset
    | SseFin
    | SseEnd
    | SseHang
    | SseHalf
    | SseBadUtf8
    | SseLongLine
    | SseDoubleDone
)
"""Every fault there is; the tag of each is its name in the grammar."""


def builtins(fault: Fault) -> dict[str, str | int | float]:
    """The fault as plain values, what stands at its default left out; `kind` is its tag."""
    plain = msgspec.to_builtins(fault)
    unset = {
        spec.encode_name: spec.default
        for spec in msgspec.structs.fields(fault)
        if spec.default is not msgspec.NODEFAULT
    }
    return {key: value for key, value in plain.items() if key not in unset or unset[key] != value}
