"""What a test's keys make of its requests: read from the bodies that a server of the test's own is sent."""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import trustme

from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.config import read_config
from slipstream.testing.load.export import as_json
from slipstream.testing.load.target import Target
from slipstream.testing.load.tester import LoadTester

ANSWER = b'{"choices":[{"finish_reason":"stop","message":{"content":"yes"}}]}'
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)


def bodies_of(
    config: Mapping[str, object],
    *,
    dialect: str = "openai_chat",
    tls: tuple[ssl.SSLContext, str] | None = None,
) -> list[bytes]:
    """Play a config; the body of each request."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                got.append(await reader.readexactly(length))
                writer.write(WHOLE)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls[0] if tls else None)
        async with server:
            port = server.sockets[0].getsockname()[1]
            url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
            made = msgspec.convert({"url": url, "dialect": dialect, "streaming": False}, Target)
            target = msgspec.structs.replace(made, ca_file=tls[1] if tls else "")
            given = {"duration": 20, "max_requests": 60, "stream": False, **config}
            result = await LoadTester(target, keep=False).run_test(given)
            assert result.successful_requests == 60, result.summary.hint
            assert "Tell nobody" not in as_json(result)

    asyncio.run(main())
    return got


def prompts_of(bodies: list[bytes]) -> list[str]:
    return [msgspec.json.decode(body)["messages"][-1]["content"] for body in bodies]


def test_cached_prompts_come_again() -> None:
    """With `cached` there are so many prompts, the same in the next run; without, no two are equal."""
    config = {"concurrent_users": 3, "cached": True, "distinct": 4}
    first, second = prompts_of(bodies_of(config)), prompts_of(bodies_of(config))

    assert len(set(first)) == 4
    assert set(first) == set(second)
    assert len(set(prompts_of(bodies_of({"concurrent_users": 3})))) == 60


def test_lengths_are_spread_and_prefixes_shared() -> None:
    """Lengths have the mean and the spread that were asked for; all prompts begin alike, then differ."""
    config = {"concurrent_users": 2, "prompt_tokens": 100, "prompt_spread": 40, "shared_prefix": 24}
    prompts = prompts_of(bodies_of(config))
    words = [len(each.split()) for each in prompts]

    assert 75 < sum(words) / len(words) < 125
    assert len(set(words)) > 20
    assert len({tuple(each.split()[:24]) for each in prompts}) == 1
    assert len({tuple(each.split()[:32]) for each in prompts}) == 60


def test_sessions_have_turns() -> None:
    """Each turn sends the turns before it: one, three and five messages, again and again."""
    bodies = bodies_of({"concurrent_users": 1, "turns": 3})

    counts = [len(msgspec.json.decode(body)["messages"]) for body in bodies]
    assert counts == [1, 3, 5] * 20


def test_a_whole_body_is_sent_as_it_is() -> None:
    """Any HTTP request: its body is sent untouched, and is in no result."""
    assert set(bodies_of({"concurrent_users": 1, "body": "Tell nobody\n"}, dialect="http")) == {
        b"Tell nobody\n"
    }


def test_an_authority_of_ones_own(tmp_path: Path) -> None:
    """An https target whose certificate is signed by the authority in `ca_file`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)

    assert len(bodies_of({"concurrent_users": 2}, tls=(context, str(tmp_path / "ca.pem")))) == 60


def test_an_authority_that_cannot_be_read() -> None:
    """It is told before anything is sent."""
    target = Target(url="https://127.0.0.1:9", ca_file="/nowhere.pem")
    with pytest.raises(ConfigurationError, match=r"/nowhere\.pem"):
        LoadTester(target, keep=False).run_test_sync({"concurrent_users": 1, "duration": 1})


@pytest.mark.parametrize(
    ("dialect", "config", "said"),
    [
        ("openai_chat", {"body": "x"}, "makes its own"),
        ("http", {"prompt": "x"}, "no prompts"),
        ("http", {"turns": 2}, "no turns"),
    ],
)
def test_what_a_dialect_cannot(dialect: str, config: dict[str, object], said: str) -> None:
    """What would be left out in silence is refused."""
    target = msgspec.convert({"url": "http://127.0.0.1:9", "dialect": dialect}, Target)
    with pytest.raises(ConfigurationError, match=said):
        LoadTester(target, keep=False).run_test_sync({"concurrent_users": 1, **config})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"requests_per_second": 5, "turns": 2}, "sessions"),
        ({"concurrent_users": 5, "distinct": 3}, "salts"),
        ({"concurrent_users": 5, "body": "x", "prompt": "y"}, "body"),
        ({"trace": "t.csv", "shared_prefix": 5}, "lengths of its own"),
    ],
)
def test_shapes_that_contradict_themselves(config: dict[str, object], said: str) -> None:
    """One clear sentence, before anything is sent."""
    with pytest.raises(ConfigurationError, match=said):
        read_config(config)
