"""Pages and admin routes: passed over a Unix socket to the supervisor, so that no page stalls a token."""

from collections.abc import Callable

from slipstream.core.errors import NotAllowed, Unavailable, UpstreamFailed
from slipstream.core.keys import Keyring
from slipstream.gateway.exchange import Exchange
from slipstream.gateway.guard import secret_of
from slipstream.net.client import ClientOptions, HttpClient, Response

ROLE = b"x-slipstream-role"
KEY_ID = b"x-slipstream-key-id"

_NOT_PASSED = frozenset(
    {b"host", b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade", b"expect",
     b"te", b"trailer", b"proxy-connection", b"authorization", b"x-api-key", b"api-key", ROLE, KEY_ID}
)  # fmt: skip
_NOT_RETURNED = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"date", b"server"}
)


class ControlForward:
    """Passes a request to the supervisor together with who is asking; the supervisor decides what it may.

    `is_draining` says whether the worker is to end: streams of events, which have no end of their own,
    are ended then.
    """

    def __init__(
        self, socket_path: str, keyring: Callable[[], Keyring], is_draining: Callable[[], bool]
    ) -> None:
        self._keyring = keyring
        self._is_draining = is_draining
        self._client = HttpClient("http://control", ClientOptions(connections=32), unix_path=socket_path)

    async def serve(self, exchange: Exchange) -> None:
        """Pass one request on and its answer back as it comes."""
        headers = [pair for pair in exchange.headers.items() if pair[0] not in _NOT_PASSED]
        headers.extend(self._who(exchange))
        query = b"?" + exchange.query if exchange.query else b""
        target = (exchange.path + query).decode("latin-1")
        try:
            response = await self._client.request(
                exchange.method.decode("ascii"), target, headers, exchange.body
            )
        except UpstreamFailed as error:
            raise Unavailable(
                "The pages are not available right now.", hint="Try again in a moment."
            ) from error
        try:
            returned = [pair for pair in response.headers if pair[0] not in _NOT_RETURNED]
            exchange.begin(
                response.status,
                b"",
                returned,
                length=_length(response, exchange.method),
            )
            if response.whole is not None:
                exchange.write(response.whole)
            else:
                is_endless = response.header(b"content-type").startswith(b"text/event-stream")
                async for piece in response:
                    exchange.write(piece.data)
                    if exchange.flow.write_paused:
                        await exchange.drain()
                    if is_endless and self._is_draining():
                        break
            exchange.finish()
        finally:
            response.close()

    async def aclose(self) -> None:
        """Close the connections to the supervisor."""
        await self._client.aclose()

    def _who(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        try:
            entry = self._keyring().whose(secret_of(exchange.headers))
        except NotAllowed:
            return []
        return [(ROLE, entry.role.encode()), (KEY_ID, entry.id.encode())]


def _length(response: Response, method: bytes) -> int | None:
    """Bytes of the body, None where they are not known; of a HEAD's answer, those that a GET would get."""
    declared = response.header(b"content-length")
    if method == b"HEAD":
        return int(declared) if declared.isdigit() else None
    return len(response.whole) if response.whole is not None else None
