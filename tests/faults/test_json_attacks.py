"""Hostile JSON (docs/faults.md, row C5), at a real server: a typed refusal, at a cost that its length explains."""

import contextlib
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from e2e.serving import Serving
from faults.raw import CHAT, ask, chat, eventually, post, wire
from faults.rig import Behind, backstage, counters, gateway
from slipstream.config.settings import Simulated
from slipstream.core.chat import Route, parse
from slipstream.core.errors import BadRequest
from slipstream.testing.simulator import run_simulator


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with backstage() as stage:
        simulator = stage.open(run_simulator(Simulated(output_tokens=8)))
        behind = [Behind(f"{simulator.url}/v1", "well")]
        with gateway(tmp_path_factory.mktemp("json"), behind, MODELS__FIRST_TOKEN_SECONDS="30") as server:
            yield server


FRONT = b'{"model":"well","messages":[{"role":"user","content":"hi"}],"x":'
JSON_ATTACKS = {
    "depth 100,000 in a field": FRONT + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "depth 100,000 of objects": FRONT + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "open for ever": b"[" * 1_000_000,
    "a number of 5,000 digits": FRONT[:-4] + b'"max_tokens":' + b"9" * 5000 + b"}",
    "an exponent beyond all": FRONT[:-4] + b'"max_tokens":1e999999999}',
    "duplicate": FRONT + b'1,"x":1}',
    "duplicate, escaped": FRONT + b'1,"\\u0078":2}',
    "lone surrogate as a key": FRONT + b'1,"\\ud800":1}',
    "lone surrogate in text": b'{"model":"well","messages":[{"role":"user","content":"\\ud800"}]}',
    "nul in text": b'{"model":"well","messages":[{"role":"user","content":"\\u0000"}]}',
    "nul byte": FRONT + b'"\x00"}',
    "bad utf-8": FRONT + b'"\xff"}',
    "bad utf-8 as a key": FRONT + b'1,"\xff":1}',
    "10^6 fields": b"{" + b",".join(b'"k%d":1' % n for n in range(1_000_000)) + b"}",
    "10^6 fields, spaced": b"{" + b", ".join(b'"k%d": 1' % n for n in range(1_000_000)) + b"}",
    "a name of 5 MB": b'{"' + b"a" * 5_000_000 + b'":1,"messages":[]}',
    "10^6 messages": b'{"model":"well","messages":[' + b",".join([b"{}"] * 1_000_000) + b"]}",
    "messages of numbers": b'{"model":"well","messages":[1,2,3]}',
    "model of 10^6 letters": b'{"model":"' + b"m" * 1_000_000 + b'","messages":[]}',
    "nan": FRONT + b"NaN}",
    "comment": FRONT + b"1/* */}",
    "trailing comma": FRONT + b"1,}",
    "single quotes": b"{'model':'well','messages':[]}",
    "utf-16": '{"model":"well","messages":[]}'.encode("utf-16"),
}
SERVED = {"nul in text", "10^6 messages", "messages of numbers"}
"""What is JSON by its grammar: the model's to judge. It may be refused, but never be our failure."""


@pytest.mark.parametrize("name", JSON_ATTACKS)
def test_json_attacks(house: Serving, name: str) -> None:
    """C5: a 400 that says what is wrong, on a connection that lives on; never a 500."""
    with wire(house.url) as client:
        client.send(post(CHAT, JSON_ATTACKS[name]))
        answer = client.answer()
        assert answer.status == 200 if name in SERVED else answer.status in {400, 404}, answer
        assert answer.status == 200 or answer.error["message"]
        assert client.is_kept()


@pytest.mark.parametrize("hostile", ["fields", "name", "escaped name", "white space"])
def test_cost_of_a_hostile_body(hostile: str) -> None:
    """C5: reading a request costs about what decoding its JSON does, whatever is in it: nobody is held up."""
    bodies = {
        "fields": b"{" + b", ".join(b'"k%d": 1' % n for n in range(200_000)) + b', "messages": []}',
        "name": b'{"' + b"a" * 5_000_000 + b'": 1, "messages": []}',
        "escaped name": b'{"' + b"\\u0061" * 800_000 + b'": 1, "messages": []}',
        "white space": b'{"messages": []' + b" " * 5_000_000 + b"}",
    }
    body = bodies[hostile]
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    assert min(cost_of(read, body) for _ in range(3)) < 2 * min(cost_of(decode, body) for _ in range(3))


def read(body: bytes) -> None:
    """Read a request, or refuse it."""
    with contextlib.suppress(BadRequest):
        parse(Route.CHAT, body)


def cost_of(take: Callable[[bytes], object], body: bytes) -> float:
    """CPU seconds."""
    began = time.process_time()
    take(body)
    return time.process_time() - began


def test_nothing_unplanned(house: Serving) -> None:
    """After all of these no error was unplanned, and the server serves."""
    assert ask(house.url, chat("well")).whole
    eventually(lambda: counters(house)["requests_refused"] > 0)
    assert counters(house)["unexpected_errors"] == 0, house.log.read_text()[-4000:]
