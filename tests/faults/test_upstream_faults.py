"""Upstreams that fail in every way we know (docs/faults.md, rows U1 to U4 and U6), behind a real server.

Before the first byte a failure is tried again or is a typed error; after it, it is an error event. Never a
silent 200, never a character twice.
"""

from collections.abc import Iterator

import pytest

from faults.raw import ask, eventually, post
from faults.rig import counters, in_flight, workers
from faults.upstreams import (
    ABSURD,
    AFTER,
    AGAIN,
    ANSWER_BYTES,
    BEFORE,
    DONE,
    ERROR,
    EVENT,
    LAST,
    ODD_EVENTS,
    RETRY_AFTER,
    TOKENS,
    UNSTREAMED,
    WELL,
    WHOLE,
    House,
    ill_house,
    model_of,
)  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with ill_house(tmp_path_factory.mktemp("upstreams")) as built:
        yield built


@pytest.fixture(scope="module")
def said(house: House) -> str:
    """What the simulated model says when it is well."""
    answer = house.ask(WELL)
    assert answer.whole
    assert answer.datas[-1] == b"[DONE]"
    assert len(answer.text.split()) == TOKENS
    return answer.text


BEFORE_CALLS = [
    *((name, stream) for name in BEFORE for stream in (True, False) if stream or "sse_" not in name),
    *((name, False) for name in UNSTREAMED),
]


@pytest.mark.parametrize(("name", "stream"), BEFORE_CALLS)
def test_before_the_first_byte(house: House, name: str, stream: bool) -> None:
    """U1, U2, U3, U6: tried again where that makes sense, at most `attempts` times; then a typed error."""
    status, code, attempts = (BEFORE | UNSTREAMED)[name]
    answer = house.ask(model_of(name), stream=stream)
    assert answer.whole
    assert (answer.status, answer.error["code"]) == (status, code)
    record = house.record(answer)
    assert record["attempts"] == attempts
    assert record["outcome"] == ("refused" if status < 500 else "failed")


@pytest.mark.parametrize("name", AGAIN)
def test_second_try_is_served(house: House, said: str, name: str) -> None:
    """U3: a failure before the first byte is not seen by the client, and nothing comes twice."""
    answer = house.ask(name)
    assert (answer.status, answer.text, answer.datas[-1]) == (200, said, b"[DONE]")
    assert house.record(answer)["attempts"] == 2


@pytest.mark.parametrize("name", AFTER)
def test_after_the_first_byte(house: House, said: str, name: str) -> None:
    """U2, U3, U4: what has come stays as it is, once; then one error event; no second try."""
    tokens, code = AFTER[name]
    answer = house.ask(model_of(name))
    assert (answer.status, answer.whole) == (200, True)
    assert answer.text.split() == said.split()[:tokens]
    assert answer.stream_error is not None
    assert answer.stream_error["code"] == code
    assert b"[DONE]" not in answer.datas
    record = house.record(answer)
    assert (record["outcome"], record["attempts"], record["error_code"]) == ("failed", 1, code)


@pytest.mark.parametrize("name", WHOLE)
def test_odd_but_whole(house: House, said: str, name: str) -> None:
    """U4: what the standard allows, or what every server does wrong, reaches the client whole."""
    answer = house.ask(model_of(name))
    assert (answer.status, answer.whole, answer.text) == (200, True, said)
    assert answer.datas[-1] == b"[DONE]"
    record = house.record(answer)
    assert record["outcome"] == "served"
    assert record["output_tokens"] == TOKENS
    assert record["tokens_estimated"] == ("no_usage" in name)


@pytest.mark.parametrize("split", ["sim:split=1", "chaos:split:down,mean=1"])
def test_characters_split_at_every_byte(house: House, split: str) -> None:
    """U4: characters of two to four bytes, cut at each of them, arrive as they were sent."""
    whole = house.ask("m#unicode") if split.startswith("sim") else None
    answer = house.ask("m#unicode,split=1") if whole else house.ask(split, simulate="unicode")
    assert answer.datas[-1] == b"[DONE]"
    assert "東京" in answer.text
    if whole:
        assert answer.text == whole.text


@pytest.mark.parametrize("name", ODD_EVENTS)
def test_odd_events_pass_as_they_came(house: House, name: str) -> None:
    """U4: an event that we cannot read is the client's to judge: it passes byte for byte, nothing breaks."""
    answer = house.ask(name)
    expected = EVENT + ODD_EVENTS[name] + EVENT + LAST + DONE
    shown = bytes(answer.body)
    assert (answer.status, answer.whole) == (200, True)
    assert shown.startswith(EVENT)
    assert shown.endswith(EVENT + LAST + DONE)
    assert shown == expected or (b'"usage"' in ODD_EVENTS[name] and shown == EVENT + EVENT + LAST + DONE)
    assert house.record(answer)["outcome"] == "served"


def test_first_event_in_pieces(house: House) -> None:
    """U4: an event that comes in pieces is passed on whole."""
    answer = house.ask("first event split")
    assert bytes(answer.body) == EVENT + LAST + DONE


def test_first_event_that_is_no_text(house: House) -> None:
    """U4: bytes that are not UTF-8, before any token has come, pass as well and break nothing."""
    answer = house.ask("first event not utf-8")
    assert bytes(answer.body) == ODD_EVENTS["bad utf-8"] + EVENT + LAST + DONE
    assert house.record(answer)["outcome"] == "served"


def test_five_thousand_events(house: House) -> None:
    """U4: none is lost and none comes twice."""
    answer = house.ask("many events")
    assert bytes(answer.body) == EVENT * 5000 + LAST + DONE


def test_bytes_are_no_sign_of_life(house: House) -> None:
    """U2: one byte after the other inside an event does not put off the deadline of the next event."""
    answer = house.ask("a byte at a time")
    assert (answer.status, bytes(answer.body).startswith(EVENT)) == (200, True)
    assert answer.stream_error is not None
    assert answer.stream_error["code"] == "upstream_timeout"


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_usage_is_estimated(house: House, name: str) -> None:
    """U4: a usage that cannot be is not recorded as one: the tokens are counted and marked as estimated."""
    answer = house.ask(name)
    assert answer.datas[-1] == b"[DONE]"
    record = house.record(answer)
    assert (record["output_tokens"], record["tokens_estimated"]) == (2, True)


@pytest.mark.parametrize("name", ["error event", "broken after its error"])
def test_one_error_event(house: House, name: str) -> None:
    """U3: an error event of the upstream's is passed on; a second one of ours would only hide it."""
    answer = house.ask(name)
    assert bytes(answer.body) == EVENT + ERROR
    record = house.record(answer)
    assert (record["outcome"], record["error_type"]) == ("failed", "upstream_error")


@pytest.mark.parametrize("name", ["broken after done", "hangs after done"])
def test_nothing_after_done_matters(house: House, name: str) -> None:
    """U3: after [DONE] the client has its answer; what the connection does then is no error of this answer."""
    answer = house.ask(name)
    assert (bytes(answer.body), answer.whole) == (EVENT + LAST + DONE, True)
    assert house.record(answer)["outcome"] == "served"


@pytest.mark.parametrize("name", RETRY_AFTER)
def test_429_is_passed_on(house: House, name: str) -> None:
    """U5: status, body and Retry-After reach the client; a nonsense value harms nobody."""
    answer = house.ask(name)
    assert answer.status == 429
    assert answer.json["error"] == {"message": "slow down", "code": "slow"}
    assert answer.headers.get(b"retry-after", b"") == RETRY_AFTER[name]
    assert house.record(answer)["outcome"] == "refused"


def test_redirect_is_not_followed(house: House) -> None:
    """U6: not one request goes where an upstream points."""
    served = house.bytes
    before = served.requests.total()
    answer = house.ask("redirects")
    assert answer.status == 502
    assert served.requests.total() == before + 2  # both tries, at the upstream itself
    assert b"location" not in answer.headers


def test_identity_is_asked_for(house: House) -> None:
    """U6: we never ask for a compressed answer, so no bomb needs to be opened by us."""
    house.ask("many events")
    assert b"accept-encoding: identity\r\n" in house.bytes.heads["many events"].lower()


def test_compressed_answer_is_refused(house: House) -> None:
    """U6: a compressed body is a typed error: passed on without its encoding it would be garbage."""
    for stream in (True, False):
        answer = house.ask("gzip", stream=stream)
        assert (answer.status, answer.error["code"]) == (502, "upstream_malformed")


def test_flood_is_cut(house: House) -> None:
    """U6: an endless body without a declared length ends at the bound, with a broken connection, in little memory."""
    (worker,) = workers(house.server)
    house.ask(WELL)
    before = worker.memory_info().rss
    left = house.bytes.left["flood"]
    answer = house.ask("flood", stream=False)
    assert (answer.status, answer.whole) == (200, False)
    assert len(answer.body) <= ANSWER_BYTES
    eventually(lambda: house.bytes.left["flood"] == left + 1)
    assert worker.memory_info().rss - before < 2 * ANSWER_BYTES


def test_zeros_before_a_length(house: House) -> None:
    """U6: a length with thousands of zeros before it is that length, not a crash of whoever reads it."""
    answer = house.ask("zeros before its length", stream=False)
    assert (answer.status, bytes(answer.body), answer.whole) == (200, b"{}", True)


def test_wrong_content_type_is_refused(house: House) -> None:
    """U6: an HTML page with status 200 is not an answer."""
    answer = house.ask("html", stream=False)
    assert (answer.status, answer.error["code"]) == (502, "upstream_malformed")


def test_html_cannot_run_on_our_origin(house: House) -> None:
    """U6: a page that an upstream sends is labelled so that no browser runs it as ours."""
    answer = house.ask("html error", stream=False)
    assert answer.status == 502
    assert b"sandbox" in answer.headers[b"content-security-policy"]
    assert answer.headers[b"x-content-type-options"] == b"nosniff"


def test_forwarded_paths_do_not_climb(house: House) -> None:
    """U6: a path with dot segments, plain or escaped, does not reach an upstream: it would leave its base."""
    before = house.bytes.requests.total()
    for path in ("/v1/../admin", "/v1/%2e%2e/admin", "/v1/x/.%2E/y", "/v1/x%2f..%2fy", "/v1/..%5cadmin"):
        answer = ask(house.server.url, post(path, {}))
        assert (answer.status, answer.error["code"]) == (400, "invalid_path")
    assert house.bytes.requests.total() == before


def test_nothing_is_left_and_nothing_was_unplanned(house: House) -> None:
    """After all of these: no request in flight, nothing held upstream, every failure counted, none unplanned."""
    for name in ("sim:cut", "sim:hang"):
        house.ask(model_of(name))
    eventually(lambda: in_flight(house.server) == 0)
    eventually(lambda: house.simulator.stats.in_flight == 0)
    eventually(lambda: counters(house.server)["upstream_errors"] > 0)
    counted = counters(house.server)
    assert counted["upstream_timeouts"] > 0
    assert counted["requests_failed"] > 0
    assert counted["unexpected_errors"] == 0, house.server.log.read_text()[-4000:]
