"""What a request must look like before its body is read."""

import pytest

from slipstream.core.errors import BadRequest
from slipstream.gateway.guard import Guard, is_loopback, require_json, secret_of

LOCAL = Guard("127.0.0.1")


@pytest.mark.parametrize(
    "host", [b"127.0.0.1:8080", b"localhost", b"LOCALHOST:1", b"[::1]:8080", b"127.0.0.1"]
)
def test_own_hosts(host: bytes) -> None:
    """The loopback names are served, with any port."""
    assert LOCAL.check(b"GET", {b"host": host}) is None


@pytest.mark.parametrize(
    "host",
    [b"", b"evil.example", b"127.0.0.1.evil.example", b"localhost:80@evil", b"a/?x", b"[::1", b"localhost:x",
     b"127.0.0.1:80:80", b"[::1]x", b"xlocalhost"],
)  # fmt: skip
def test_foreign_hosts(host: bytes) -> None:
    """Anything else is misdirected (421): a name that an attacker points at 127.0.0.1 among them."""
    error = LOCAL.check(b"GET", {b"host": host})
    assert error is not None
    assert error.status == 421


def test_hosts_of_the_settings() -> None:
    """A configured name is served; off loopback, where a key is required, any is."""
    assert Guard("127.0.0.1", ["chat.example"]).check(b"GET", {b"host": b"chat.example:80"}) is None
    assert Guard("0.0.0.0").check(b"GET", {b"host": b"whatever"}) is None
    assert Guard("0.0.0.0", ["chat.example"]).check(b"GET", {b"host": b"other"}) is not None


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        (b"POST", {}, True),
        (b"POST", {b"origin": b"http://localhost:8080"}, True),
        (b"POST", {b"sec-fetch-site": b"same-origin", b"origin": b"http://localhost:8080"}, True),
        (b"POST", {b"origin": b"http://evil.example"}, False),
        (b"POST", {b"origin": b"null"}, False),
        (b"POST", {b"origin": b"http://localhost:9999"}, False),
        (b"POST", {b"sec-fetch-site": b"cross-site"}, False),
        (b"GET", {b"sec-fetch-site": b"cross-site"}, False),
        (b"GET", {b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"navigate"}, True),
        (b"POST", {b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"navigate"}, False),
        (b"GET", {b"sec-fetch-site": b"none"}, True),
    ],
)
def test_pages_of_other_sites(method: bytes, headers: dict[bytes, bytes], allowed: bool) -> None:
    """A page of another origin may follow a link to us, and do nothing else."""
    error = LOCAL.check(method, {b"host": b"localhost:8080", **headers})
    assert (error is None) is allowed


def test_allowed_origins() -> None:
    """An origin of the settings may call."""
    guard = Guard("127.0.0.1", (), ["https://chat.example"])
    assert guard.check(b"POST", {b"host": b"localhost", b"origin": b"https://chat.example"}) is None
    assert guard.allows_origin(b"https://chat.example")
    assert not guard.allows_origin(b"https://evil.example")


def test_json_is_asked_for() -> None:
    """A form cannot send what we take; parameters after the type do not matter."""
    require_json({b"content-type": b"application/json; charset=utf-8"})
    for kind in (b"", b"text/plain", b"application/x-www-form-urlencoded", b"application/jsonp"):
        with pytest.raises(BadRequest) as refused:
            require_json({b"content-type": kind})
        assert refused.value.status == 415
    with pytest.raises(BadRequest):
        require_json({b"content-type": b"application/json", b"content-encoding": b"gzip"})


def test_where_a_secret_is_found() -> None:
    """Bearer token first, then the headers other clients use, then the page's cookie."""
    assert secret_of({b"authorization": b"Bearer  abc "}) == "abc"
    assert secret_of({b"authorization": b"Basic abc", b"x-api-key": b"k"}) == "k"
    assert secret_of({b"api-key": b"k"}) == "k"
    assert secret_of({b"cookie": b"a=b; slipstream_session=s; c=d"}) == "s"
    assert secret_of({}) == ""


def test_loopback() -> None:
    """Which addresses only this machine can reach."""
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.1", "example.com", "")))
