"""Several upstreams for one model, on virtual time: faults, storms, and what the clients notice of them."""

import asyncio
import email.utils
import itertools
import random

import pytest
from msgspec.structs import replace

from flow.upstreams import NORMAL, Answer, Rig, Upstream, p95, seconds
from slipstream.core import clock
from slipstream.core.chat import Route
from slipstream.flow import virtual
from slipstream.flow.attempt import Patience
from slipstream.flow.select import Target

FAILS = replace(NORMAL, error_rate=1.0)
FLAKY = replace(NORMAL, error_rate=0.5)
SLOW = replace(NORMAL, ttft_ms=2000, itl_ms=100)
BASE = 0.34
"""95th percentile of a healthy request's time here: 200 ms and four gaps of 10 ms, with their spread."""


def caching(upstream: Upstream, name: str) -> Target:
    return Target(upstream, name, caches_prompts=True)


def failed(answers: list[Answer]) -> float:
    return sum(not answer.is_served for answer in answers) / len(answers)


# One of three is ill (row U7).


@pytest.mark.parametrize("act", [FLAKY, SLOW, FAILS], ids=["fails 50 %", "10 x slow", "dead"])
@pytest.mark.parametrize("sticks", [False, True], ids=["balanced", "sticky"])
def test_one_ill_upstream_of_three_is_hardly_noticed(act: object, sticks: bool) -> None:
    """After 10 s: errors at most 1 %, p95 at most 1.5 times the usual; healed it is back within 60 s."""
    healed, end = 70.0, 140.0

    async def main() -> None:
        ill = Upstream("a", (0.0, act), (healed, NORMAL))  # type: ignore[arg-type]
        upstreams = [ill, Upstream("b"), Upstream("c")]
        rig = Rig({"m": upstreams}, **({"target": caching} if sticks else {}))  # type: ignore[arg-type]
        rng = random.Random(2)
        asked = []
        while seconds() < end:
            opening = {"role": "user", "content": f"conversation {rng.randrange(300)}"}
            asked.append(asyncio.ensure_future(rig.ask(messages=[opening])))
            await asyncio.sleep(rng.expovariate(15.0))
        answers = await asyncio.gather(*asked)
        during = [answer for answer in answers if 10 <= answer.at < healed]
        assert failed(during) <= 0.01
        assert p95(during) <= 1.5 * BASE
        shares = [
            ill.arrived(at, at + 5) / sum(each.arrived(at, at + 5) for each in upstreams)
            for at in (healed + step for step in range(56))
        ]
        assert max(shares) >= 0.25
        assert rig.nothing_is_left()

    virtual.run(main())


def test_healthy_upstreams_share_and_nobody_is_taken_out() -> None:
    """Ten minutes at the same noisy speed: a third each, no ejection, no retry."""

    async def main() -> None:
        upstreams = [Upstream(name) for name in "abc"]
        rig = Rig({"m": upstreams})
        answers = await rig.crowd(6.0, 600.0)
        assert failed(answers) == 0
        assert p95(answers) <= BASE
        for upstream in upstreams:
            assert len(upstream.arrivals) / len(answers) == pytest.approx(1 / 3, abs=0.04)
        assert sum(each.trips for each in rig.catalog.snapshot()) == 0
        assert rig.counters.snapshot()["upstream_retries"] == 0

    virtual.run(main())


# Storms (row U5).


@pytest.mark.parametrize(
    "ill", [replace(NORMAL, error_rate=0.3), FAILS], ids=["all fail 30 %", "all are down"]
)
def test_a_storm_is_not_amplified(ill: object) -> None:
    """In any 60 s retries are at most 10 % of the requests; the upstreams get at most 1.1 times the load."""
    end = 180.0

    async def main() -> None:
        upstreams = [Upstream(name, (0.0, ill)) for name in "abc"]  # type: ignore[arg-type]
        rig = Rig({"m": upstreams}, patience=Patience(attempts=3), minimum=0)
        answers = await rig.crowd(15.0, end)
        at = [answer.at for answer in answers]
        sent = sorted(arrival for upstream in upstreams for arrival in upstream.arrivals)
        assert len(sent) <= 1.1 * len(answers)
        if ill is not FAILS:  # 70 % of the first tries, and the retries that the budget allows
            assert failed(answers) <= 0.27
        retries = rig.counters.snapshot()["upstream_retries"]
        assert 0 < retries <= 0.1 * len(answers)
        for until in range(60, int(end), 5):
            arrived = sum(until - 60 <= each < until for each in sent)
            assert arrived <= 1.1 * sum(
                until - 71 <= each < until for each in at
            )  # 10 s of waiting, 1 s of a try
        assert rig.nothing_is_left()

    virtual.run(main())


def test_an_outage_of_all_ends_by_itself() -> None:
    """All are down for a minute: whoever is turned away learns why; within 40 s of the end all is well."""

    async def main() -> None:
        upstreams = [Upstream(name, (0.0, NORMAL), (20.0, FAILS), (80.0, NORMAL)) for name in "ab"]
        rig = Rig({"m": upstreams}, patience=Patience(attempts=2, wait_seconds=2.0))
        answers = await rig.crowd(15.0, 140.0)
        assert failed([a for a in answers if a.at < 19]) == 0
        assert failed([a for a in answers if a.at > 120]) == 0
        refused = [a for a in answers if a.code == "no_upstream_free"]
        assert len(refused) > 100
        assert all(a.status == 503 and a.retry_after is not None and a.took <= 2.5 for a in refused)
        assert "a / m: " in refused[0].message
        assert "b / m: " in refused[0].message
        assert "answered 500" in refused[0].message
        arrived = sum(each.arrived(25.0, 80.0) for each in upstreams)
        assert arrived < 40  # probes only
        assert rig.nothing_is_left()

    virtual.run(main())


# Retry-After.


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date", "huge"])
def test_retry_after_takes_an_upstream_out_for_that_time(status: int, form: str) -> None:
    """The others serve; after the time that was asked for, a minute at most, it is asked again."""
    until = {"seconds": 8.0, "date": 8.0, "huge": 60.0}[form]

    async def main() -> None:
        value = {"seconds": "8", "date": email.utils.formatdate(clock.wall_ns() / 1e9 + 8, usegmt=True)}
        header = value.get(form, "1000000000").replace(",", "%2C")
        limited = Upstream("a", simulate=f"error={status},retry_after={header}")
        rig = Rig({"m": [limited, Upstream("b")]})
        while not limited.arrivals:
            assert (await rig.ask()).is_served
        limited.simulate = ""
        since = limited.arrivals[0]
        (seen,) = [each for each in rig.catalog.snapshot() if each.upstream == "a"]
        assert (seen.state, seen.why) == ("held", f"answered {status} with Retry-After")
        answers = await rig.crowd(5.0, since + 75)
        assert failed(answers) == 0
        assert limited.arrived(since + 0.1, since + until - 1.1) == 0
        assert limited.arrived(since + until, since + until + 5) > 5
        assert rig.counters.snapshot()["upstream_retries"] == 1

    virtual.run(main())


def test_a_short_retry_after_is_waited_for() -> None:
    """With one upstream the request waits as long as it was told to, and is served then."""

    async def main() -> None:
        only = Upstream("a", simulate="error=429,retry_after=3")
        rig = Rig({"m": [only]})
        asking = asyncio.ensure_future(rig.ask())
        await asyncio.sleep(1)
        only.simulate = ""
        answer = await asking
        assert answer.is_served
        assert 3.0 < answer.took < 4.5
        (record,) = rig.records
        assert record.attempts == 2
        assert "wait" in {step.name for step in record.steps}
        assert sum(step.duration_ns for step in record.steps) == record.duration_ns

    virtual.run(main())


def test_those_who_wait_come_back_one_after_the_other() -> None:
    """A hundred that were held do not all arrive in the same moment."""

    async def main() -> None:
        only = Upstream("a", simulate="error=429,retry_after=4")
        rig = Rig({"m": [only]}, patience=Patience(attempts=2))
        await asyncio.wait_for(rig.ask(leave_after=0.5), None)
        only.simulate = ""
        answers = await asyncio.gather(*(rig.ask() for _ in range(100)))
        assert failed(list(answers)) == 0
        arrivals = only.arrivals[1:]
        assert max(arrivals) - min(arrivals) > 0.3
        assert max(sum(at <= other < at + 0.1 for other in arrivals) for at in arrivals) < 40

    virtual.run(main())


@pytest.mark.parametrize(
    ("header", "told"), [("30", b"30"), ("soon", b"soon"), ("", b"")], ids=["long", "garbage", "none"]
)
def test_a_429_that_cannot_be_waited_for_is_passed_on(header: str, told: bytes) -> None:
    """The upstream's own answer, with its own Retry-After, at once."""

    async def main() -> None:
        script = "error=429" + (f",retry_after={header}" if header else "")
        rig = Rig({"m": [Upstream("a", simulate=script)]})
        answer = await rig.ask()
        assert (answer.status, answer.took) == (429, 0.0)
        assert b"Simulated error 429" in answer.text
        assert dict(answer.headers).get(b"retry-after", b"") == told
        assert rig.records[0].attempts == 1
        assert rig.nothing_is_left()

    virtual.run(main())


# Retries.


def test_the_same_upstream_is_tried_again_after_a_moment() -> None:
    """With one upstream a 500 is retried there once, after a jittered pause of its own step."""

    async def main() -> None:
        only = Upstream("a", (0.0, FAILS), (0.02, NORMAL))
        rig = Rig({"m": [only]})
        assert (await rig.ask()).is_served
        first, second = only.arrivals
        assert 0.05 <= second - first <= 0.1
        assert "back_off" in {step.name for step in rig.records[0].steps}

    virtual.run(main())


def test_another_upstream_is_tried_at_once() -> None:
    """Where there is another one nobody waits."""

    async def main() -> None:
        rig = Rig({"m": [Upstream("a", (0.0, FAILS)), Upstream("b", (0.0, replace(NORMAL, ttft_ms=0)))]})
        answers = [await rig.ask(tokens=1) for _ in range(4)]
        assert failed(answers) == 0
        assert max(answer.took for answer in answers) < 0.05
        assert {record.upstream for record in rig.records} == {"b"}
        assert {record.attempts for record in rig.records} == {1, 2}

    virtual.run(main())


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_bad_request_is_tried_once(status: int) -> None:
    """It is answered as it is: no retry, no fallback, nothing against the upstream."""

    async def main() -> None:
        ups = [Upstream(name, simulate=f"error={status}") for name in "ab"]
        rig = Rig({"m": ups, "n": [Upstream("c")]}, fallbacks={"m": ["n"]})
        answers = [await rig.ask() for _ in range(30)]
        assert {answer.status for answer in answers} == {status}
        assert {record.attempts for record in rig.records} == {1}
        assert all(each.state == "closed" and each.failures == 0 for each in rig.catalog.snapshot())

    virtual.run(main())


def test_without_budget_the_upstreams_own_error_is_passed_on() -> None:
    """No retry is granted: the first failure is the answer, and is counted as refused."""

    async def main() -> None:
        rig = Rig({"m": [Upstream("a", (0.0, FAILS)), Upstream("b", (0.0, FAILS))]}, share=0.0, minimum=0)
        answer = await rig.ask()
        assert (answer.status, answer.text != b"") == (500, True)
        counts = rig.counters.snapshot()
        assert (counts["upstream_retries"], counts["upstream_retries_refused"]) == (0, 1)

    virtual.run(main())


def test_a_silent_upstream_leaves_time_for_another() -> None:
    """The time to the first token bounds each attempt; the next one has its own."""

    async def main() -> None:
        patience = Patience(attempts=2, first_token_seconds=3.0, total_seconds=60.0)
        rig = Rig({"m": [Upstream("a", simulate="hang"), Upstream("b")]}, patience=patience)
        answers = [await rig.ask() for _ in range(6)]
        assert failed(answers) == 0
        slowest = max(answers, key=lambda answer: answer.took)
        assert 3.0 <= slowest.took <= 3.5
        assert rig.nothing_is_left()

    virtual.run(main())


def test_the_total_time_is_never_exceeded() -> None:
    """Attempts, pauses and waits together end with the total time, as a timeout."""

    async def main() -> None:
        patience = Patience(attempts=5, first_token_seconds=4.0, total_seconds=6.0, wait_seconds=60.0)
        ups = [Upstream(name, simulate="hang") for name in "abc"]
        rig = Rig({"m": ups}, patience=patience)
        answer = await rig.ask()
        assert answer.status == 504
        assert 5.9 <= answer.took <= 6.01
        ups[0].simulate = ups[1].simulate = ups[2].simulate = "error=503,retry_after=50"
        assert (await rig.ask()).took <= 6.01
        assert rig.nothing_is_left()

    virtual.run(main())


def test_nothing_is_repeated_after_the_first_byte() -> None:
    """A stream that breaks is not tried again, whoever else is there; the upstream is to blame for it."""

    async def main() -> None:
        ups = [Upstream(name, simulate="cut@3") for name in "ab"]
        rig = Rig({"m": ups})
        answers = [await rig.ask() for _ in range(8)]
        assert all(answer.status == 502 and answer.code == "upstream_broke" for answer in answers)
        assert {record.attempts for record in rig.records} == {1}
        assert sum(each.failures for each in rig.catalog.snapshot()) == 8
        assert rig.nothing_is_left()

    virtual.run(main())


def test_clients_that_leave_are_nobodys_failure() -> None:
    """Before the first byte or inside the answer: the upstream stays in use."""

    async def main() -> None:
        rig = Rig({"m": [Upstream("a")]})
        for number in range(40):
            answer = await rig.ask(leave_after=0.05 if number % 2 else 0.25, tokens=100)
            assert answer.is_left
        await asyncio.sleep(0.01)
        (seen,) = rig.catalog.snapshot()
        assert (seen.state, seen.failures, seen.in_flight) == ("closed", 0, 0)
        assert rig.nothing_is_left()

    virtual.run(main())


# Fallbacks.


def test_another_model_answers_where_the_asked_one_has_nobody_left() -> None:
    """In the order of the settings; the record says what was asked for and what answered."""

    async def main() -> None:
        down, small, local = Upstream("a", (0.0, FAILS), (30.0, NORMAL)), Upstream("b"), Upstream("local")
        serving = {"big": [down], "small": [small], "smol": [local]}
        rig = Rig(serving, fallbacks={"big": ["small", "local"]})
        answers = [await rig.ask("big") for _ in range(10)]
        assert failed(answers) == 0
        assert {(r.model_asked, r.model, r.upstream) for r in rig.records} == {("big", "small", "b")}
        assert len(down.arrivals) == 5  # then its breaker is open, and nobody is kept waiting for it
        assert b'"model":"small"' in answers[0].text
        small.simulate = "error=503,retry_after=50"
        assert (await rig.ask("big")).is_served
        assert rig.records[-1].model == "smol"
        await asyncio.sleep(60)
        small.simulate = ""
        assert (await rig.ask("big")).is_served
        assert rig.records[-1].model == "big"

    virtual.run(main())


def test_a_model_that_is_no_fallback_stands_for_nobody() -> None:
    """Without the setting a failing model fails, whatever else is there."""

    async def main() -> None:
        rig = Rig({"big": [Upstream("a", (0.0, FAILS))], "small": [Upstream("b")]})
        assert (await rig.ask("big")).status == 500
        assert (await rig.ask("small")).is_served

    virtual.run(main())


# Conversations.


def test_a_conversation_stays_with_its_upstream() -> None:
    """Where upstreams cache prompts, at least 95 % of later turns go where the turn before went."""

    async def main() -> None:
        rig = Rig({"m": [Upstream(name) for name in "abc"]}, target=caching)
        talks: dict[int, list[dict[str, str]]] = {}
        homes: dict[int, list[str]] = {}
        rng = random.Random(3)

        async def turn(number: int) -> None:
            talk = talks.setdefault(number, [{"role": "system", "content": f"bot {number % 7}"}])
            talk.append({"role": "user", "content": f"turn {len(talk)} of {number}"})
            await rig.ask(messages=list(talk))
            homes.setdefault(number, []).append(rig.records[-1].upstream)
            talk.append({"role": "assistant", "content": "yes"})

        for _ in range(600):
            await turn(rng.randrange(60))
        turns = [pair for visited in homes.values() for pair in itertools.pairwise(visited)]
        assert sum(one == other for one, other in turns) >= 0.95 * len(turns)
        assert {visited[0] for visited in homes.values()} == {"a", "b", "c"}

    virtual.run(main())


# Status.


def test_a_new_offer_keeps_what_is_known() -> None:
    """An upstream that lists its models again is as open as before; one that is gone is forgotten."""

    async def main() -> None:
        down, up = Upstream("a", (0.0, FAILS)), Upstream("b")
        rig = Rig({"m": [down]}, patience=Patience(attempts=1))
        for _ in range(5):
            await rig.ask()
        rig.catalog.offer("a", [Target(down, "m"), Target(down, "n")])
        assert [(s.model, s.state) for s in rig.catalog.snapshot()] == [("m", "open"), ("n", "closed")]
        rig.catalog.offer("b", [Target(up, "m")])
        assert (await rig.ask()).is_served
        rig.catalog.offer("a", [])
        assert [(s.upstream, s.state) for s in rig.catalog.snapshot()] == [("b", "closed")]

    virtual.run(main())


def test_names_nobody_listed_are_bounded() -> None:
    """An upstream that serves whatever is asked for keeps the health of a bounded number of names."""

    async def main() -> None:
        rig = Rig({"*": [Upstream("a")]})
        for number in range(400):
            rig.catalog.course(f"model-{number}", Route.CHAT)
        assert len(rig.catalog.snapshot()) <= 257
        assert (await rig.ask("model-7")).is_served
        assert rig.records[-1].model == "model-7"

    virtual.run(main())


def test_too_many_waiters_are_turned_away() -> None:
    """Who finds no room to wait is told so at once, and counted."""

    async def main() -> None:
        only = Upstream("a", simulate="error=503,retry_after=5")
        rig = Rig({"m": [only]}, patience=Patience(waiting=3, attempts=1))
        assert (await rig.ask()).status == 503
        only.simulate = ""
        answers = await asyncio.gather(*(rig.ask() for _ in range(5)))
        assert [answer.code for answer in answers] == ["", "", "", "no_upstream_free", "no_upstream_free"]
        assert [answer.took for answer in answers[3:]] == [0.0, 0.0]
        counts = rig.counters.snapshot()
        assert (counts["upstream_waits"], counts["upstream_waits_refused"]) == (3, 2)

    virtual.run(main())


def test_who_waits_goes_on_with_the_first_byte_of_a_probe() -> None:
    """Not only at the end of its answer; and one after the other, lest they flood what has come back."""

    async def main() -> None:
        only = Upstream("a", (0.0, FAILS), (2.0, NORMAL))
        rig = Rig({"m": [only]}, patience=Patience(attempts=1))
        for _ in range(5):
            await rig.ask()
        answers = await asyncio.gather(*(rig.ask(tokens=500) for _ in range(50)))
        assert failed(list(answers)) == 0
        probe, *others = only.arrivals[5:]
        assert 0.1 < min(others) - probe < 0.5
        assert 0.2 < max(others) - min(others) < 0.4

    virtual.run(main())
