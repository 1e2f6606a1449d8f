"""Which endpoint a request goes to, and which are taken out for being far worse than their peers."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.balance import BUSIER, BUSIER_SLACK, Ask, Peers, Pick
from slipstream.core.health import Endpoint, Visit

SECOND = 1_000_000_000
MS = 1_000_000


def endpoints(count: int, *weights: float, caches_prompts: bool = False) -> list[Endpoint[str]]:
    made = [Endpoint(f"{n}", f"up{n}", "m", chance=lambda: 0.0) for n in range(count)]
    for each, weight in zip(made, weights, strict=False):
        each.weight = weight
    for each in made:
        each.caches_prompts = caches_prompts
    return made


def peers(made: list[Endpoint[str]], seed: int = 1) -> Peers[str]:
    return Peers(made, chance=random.Random(seed).random)


def visit(endpoint: Endpoint[str], now: int = 0) -> Visit[str]:
    return Visit(endpoint, endpoint.paces[True], now)


def serve(endpoint: Endpoint[str], now: int, took: int, *, fails: bool = False) -> None:
    """One request from beginning to end."""
    one = visit(endpoint, now - took)
    one.fail(now, "reset") if fails else one.answer(now)
    one.leave(now)


def spread(group: Peers[str], made: list[Endpoint[str]], count: int, now: int = 0) -> Counter[str]:
    """Where requests go that are never answered."""
    seen: Counter[str] = Counter()
    for _ in range(count):
        pick = group.choose(now, made, Ask(streamed=True))
        assert pick is not None
        pick.begin(now, streamed=True)
        seen[pick.endpoint.what] += 1
    return seen


def test_equal_endpoints_share_the_load() -> None:
    """Under load each gets its share, nearly exactly: the less loaded of two takes the next."""
    made = endpoints(4)

    assert all(95 <= count <= 105 for count in spread(peers(made), made, 400).values())


def test_weights_hold_under_load_and_without() -> None:
    """3 : 1 in requests at the same time, and 3 : 1 in requests one after the other."""
    made = endpoints(2, 3.0, 1.0)
    busy = spread(peers(made), made, 400)
    assert busy["0"] == pytest.approx(300, abs=10)

    made, idle = endpoints(2, 3.0, 1.0), Counter[str]()
    group = peers(made)
    for number in range(2000):
        now = number * SECOND
        pick = group.choose(now, made, Ask(streamed=True))
        assert pick is not None
        serve(pick.endpoint, now, 200 * MS)
        idle[pick.endpoint.what] += 1

    assert idle["0"] == pytest.approx(1500, abs=80)


def test_a_small_weight_holds_while_the_other_is_busy() -> None:
    """100 : 1 with two requests always under way: whoever is idle is not preferred for that alone."""
    made, chosen = endpoints(2, 1.0, 0.01), Counter[str]()
    group = peers(made)
    visits = [Pick(made[0]).begin(0, streamed=True) for _ in range(2)]
    for number in range(2000):
        pick = group.choose(number * SECOND, made, Ask(streamed=True))
        assert pick is not None
        chosen[pick.endpoint.what] += 1

    assert len(visits) == 2
    assert chosen["1"] < 60


def test_a_slow_one_gets_less_and_is_tried_again() -> None:
    """Ten times slower: avoided at once, and after its estimate has faded it is as good as the other."""
    made = endpoints(2)
    for _ in range(3):
        serve(made[0], SECOND, 100 * MS)
        serve(made[1], SECOND, 1000 * MS)
    soon = spread(peers(made), made, 8, SECOND)
    assert soon["1"] == 0

    for each in made:
        each.visits.clear()
    later = spread(peers(made), made, 100, 31 * SECOND)

    assert 40 <= later["1"] <= 60


def test_an_unknown_one_is_neither_flooded_nor_starved() -> None:
    """A new endpoint without any estimate counts as fast as the one it is compared with."""
    made = endpoints(2)
    serve(made[0], SECOND, 100 * MS)

    assert 45 <= spread(peers(made), made, 100, SECOND)["1"] <= 55


def test_what_was_tried_is_not_chosen_again() -> None:
    """Neither alone nor among others."""
    made = endpoints(3)
    group = peers(made)
    picks = {group.choose(0, made, tried=made[:2]).endpoint for _ in range(20)}  # type: ignore[union-attr]

    assert picks == {made[2]}
    assert group.choose(0, made, tried=made) is None
    assert group.choose(0, made[:1], tried=made[:1]) is None


def test_one_that_is_due_is_probed_by_one() -> None:
    """After its time one request goes to an open endpoint, with a bound; the others go elsewhere."""
    made = endpoints(2)
    group = peers(made)
    serve(made[0], 0, 500 * MS)
    made[1].breaker.trip(0, "reset")
    assert group.choose(SECOND, made).endpoint is made[0]  # type: ignore[union-attr]

    probe = group.choose(6 * SECOND, made, Ask(streamed=True))
    assert probe is not None
    assert (probe.endpoint, probe.limit_ns) == (made[1], 2000 * MS)
    begun = probe.begin(6 * SECOND, streamed=True)
    assert begun.is_probe
    assert group.choose(6 * SECOND, made).endpoint is made[0]  # type: ignore[union-attr]
    begun.answer(7 * SECOND)
    begun.leave(8 * SECOND)

    assert made[1].is_free(8 * SECOND)


def test_who_cannot_be_sent_elsewhere_does_not_probe() -> None:
    """Unless nobody else is there."""
    made = endpoints(2)
    group = peers(made)
    made[1].breaker.trip(0, "reset")
    wary = Ask(may_probe=False)
    assert group.choose(6 * SECOND, made, wary).endpoint is made[0]  # type: ignore[union-attr]

    made[0].breaker.trip(6 * SECOND, "reset")

    assert group.choose(6 * SECOND, made, wary).endpoint is made[1]  # type: ignore[union-attr]


def test_a_slow_probe_leaves_it_out() -> None:
    """Ejected for being slow, it comes back only with an answer in time."""
    made = endpoints(2)
    made[1].breaker.trip(0, "slow", is_ejection=True)
    slow = Visit(made[1], made[1].paces[True], 6 * SECOND, SECOND)
    slow.answer(8 * SECOND)
    slow.leave(8 * SECOND)

    assert made[1].condition(8 * SECOND)[:2] == ("ejected", "still slow")


def test_the_ejected_serve_when_nobody_else_is_left() -> None:
    """It was only worse than its peers: with those gone it is asked at once, one request at a time."""
    made = endpoints(2)
    group = peers(made)
    made[0].breaker.trip(0, "slow", is_ejection=True)
    made[1].breaker.trip(0, "reset")

    pick = group.choose(1, made)
    assert pick is not None
    assert pick.endpoint is made[0]
    pick.begin(1, streamed=True)

    assert group.choose(1, made) is None


# Conversations.


def test_a_conversation_stays_and_all_share() -> None:
    """The same conversation goes to the same endpoint; a thousand of them spread by weight."""
    made = endpoints(3, 2.0, 1.0, 1.0, caches_prompts=True)
    group = peers(made)
    homes = Counter[str]()
    for conversation in range(2000):
        first, again = (group.choose(0, made, Ask(conversation=conversation * 7919)) for _ in range(2))
        assert first is not None
        assert again is not None
        assert first.endpoint is again.endpoint
        homes[first.endpoint.what] += 1

    assert homes["0"] == pytest.approx(1000, abs=80)
    assert homes["1"] == pytest.approx(500, abs=70)


def test_only_the_conversations_of_a_lost_endpoint_move() -> None:
    """Rendezvous hashing: whoever lived elsewhere stays there."""
    made = endpoints(4, caches_prompts=True)
    group = peers(made)

    def homes() -> dict[int, str]:
        picks = {n: group.choose(0, made, Ask(conversation=n * 104729)) for n in range(500)}
        return {n: pick.endpoint.what for n, pick in picks.items() if pick is not None}

    before = homes()
    made[2].breaker.trip(0, "reset")
    after = homes()

    assert all(after[n] == home for n, home in before.items() if home != "2")
    assert {after[n] for n, home in before.items() if home == "2"} == {"0", "1", "3"}


@given(st.lists(st.integers(0, 60), min_size=2, max_size=6), st.integers(0, 2**64 - 1))
def test_a_conversation_leaves_one_that_is_far_busier(loads: list[int], conversation: int) -> None:
    """Its home takes it only while that one's load is within the bound of the others' mean."""
    made = endpoints(len(loads), caches_prompts=True)
    for each, load in zip(made, loads, strict=True):
        for _ in range(load):
            visit(each)
    pick = peers(made).choose(0, made, Ask(conversation=conversation))
    assert pick is not None
    load = len(pick.endpoint.visits)
    others = (sum(loads) - load) / (len(loads) - 1)

    assert load <= BUSIER * others + BUSIER_SLACK


def test_where_no_prompts_are_cached_a_conversation_goes_anywhere() -> None:
    """Of a mixed group, the shares of those that cache nothing are balanced among themselves."""
    made = endpoints(3)
    made[0].caches_prompts = True
    group = peers(made)
    homes: dict[int, set[str]] = {}
    for conversation in range(60):
        for _ in range(20):
            pick = group.choose(0, made, Ask(conversation=conversation * 7919))
            assert pick is not None
            homes.setdefault(conversation, set()).add(pick.endpoint.what)

    assert {frozenset(each) for each in homes.values()} == {frozenset("0"), frozenset("12")}


# Ejection.

histories = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 400 * MS),
        st.booleans(),
        st.sampled_from([MS, 100 * MS, 3000 * MS]),
    ),
    max_size=250,
)


@settings(max_examples=60)
@given(st.integers(1, 6), histories)
def test_never_more_than_half_are_ejected(count: int, history: list[tuple[int, int, bool, int]]) -> None:
    """Whatever happens, at the moment of an ejection at most half of the peers are out."""
    made = endpoints(count)
    group, now = peers(made), 10 * SECOND
    for place, gap, fails, took in history:
        now += gap
        serve(made[place % count], now, took, fails=fails)
        ejected = {each for each in made if each.breaker.is_ejected}
        group.choose(now, made)
        if {each for each in made if each.breaker.is_ejected} - ejected:
            assert 2 * sum(not each.is_free(now) for each in made) <= count


def test_one_that_fails_far_more_than_its_peers_is_ejected() -> None:
    """40 % against none: out, though the breaker alone would have let it be; it says why."""
    made = endpoints(3)
    group = peers(made)
    for number in range(20):
        for each in made:
            serve(each, SECOND + number, 100 * MS, fails=each is made[1] and number % 5 in {0, 3})
    group.choose(2 * SECOND, made)

    assert [each.condition(2 * SECOND)[0] for each in made] == ["closed", "ejected", "closed"]
    assert made[1].breaker.why == "failed 40% of 20 requests"


def test_what_all_suffer_from_ejects_nobody() -> None:
    """A common failure, or a common slowness, is not one's own."""
    made = endpoints(3)
    group = peers(made)
    for number in range(40):
        for each in made:
            serve(each, SECOND + number, 5 * SECOND, fails=number % 3 == 0)
    group.choose(2 * SECOND, made)

    assert all(each.is_free(2 * SECOND) for each in made)


@pytest.mark.parametrize(("slow_ms", "state"), [(1000, "ejected"), (300, "closed"), (60, "closed")])
def test_one_that_is_far_slower_than_its_peers_is_ejected(slow_ms: int, state: str) -> None:
    """Ten times their median: out. Three times, or by a few milliseconds: not."""
    made = endpoints(3)
    group = peers(made)
    usual = 10 if slow_ms == 60 else 100
    for number in range(10):
        for each in made:
            serve(each, SECOND + number, (slow_ms if each is made[0] else usual) * MS)
    group.choose(2 * SECOND, made)

    assert made[0].condition(2 * SECOND)[0] == state
