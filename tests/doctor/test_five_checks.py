"""Each of the five causes is named where it is, first, with requests that show it; a healthy server is well."""

import pytest
from msgspec.structs import replace

from doctor.traffic import START_NS, asks, evidence, happened, settings, times
from slipstream.core.record import Record
from slipstream.core.stalls import StallSeen
from slipstream.core.use import UseRow
from slipstream.doctor.checks import CHECKS, examined
from slipstream.doctor.evidence import Evidence, gather
from slipstream.doctor.finding import Finding
from slipstream.doctor.predict import advise
from slipstream.doctor.refusals import Refusing
from slipstream.doctor.symptoms import symptoms


def first(given: Evidence) -> Finding:
    found, ruled_out = examined(given)
    assert len(found) + len(ruled_out) == len(CHECKS)
    assert found, [each.why for each in ruled_out]
    known = {flow.record.id for flow in given.flows}
    for point in found[0].evidence:
        assert known >= set(point.requests)
    assert any(point.requests for point in found[0].evidence)
    return found[0]


def test_a_healthy_server_is_well() -> None:
    """Nothing is found, everything is ruled out with a reason, and there is no symptom."""
    given = evidence(asks(300, 10), {"a": times(), "b": times()})
    found, ruled_out = examined(given)

    assert found == ()
    assert all(each.why for each in ruled_out)
    assert symptoms(given) == ()


def test_the_slow_upstream_of_two() -> None:
    """Named, compared with the other, with its weight to change."""
    found = first(evidence(asks(300, 12), {"east": times(), "west": times(0.6, 0.03)}))

    assert (found.check, found.subject) == ("slow_upstream", "west")
    assert found.fixes[0].setting == "models.upstreams.west.weight"


def test_an_upstream_that_gets_the_long_prompts_is_not_slow() -> None:
    """Compared is the time for the same prompt and answer, not the mean."""
    long = tuple(
        replace(each, model="m", prompt=each.prompt * 8, output=each.output * 3)
        for each in asks(200, 4, seed=8)
    )
    one, _ = happened(asks(200, 4), {"a": times()})
    other, known = happened(long, {"a": times(), "b": times()})
    other = [replace(each, upstream="b", id=f"b{each.id}") for each in other]
    found, _ = examined(gather([*one, *other], known))

    assert found == ()


def two_models(shared: str) -> Evidence:
    """Two upstreams, one of them slower; each has a model of its own, or both have `shared`."""
    given = {"here": times(), "there": times(0.6, 0.03)}
    records, known = happened(asks(300, 12), given)
    named = {"here": "small", "there": "big"}
    return gather([replace(each, model=shared or named[each.upstream]) for each in records], known)


def test_a_big_model_is_not_held_against_a_small_one() -> None:
    """Each upstream has its own: ruled out, and said why; where both serve the same it is the cause."""
    found, ruled_out = examined(two_models(""))
    (why,) = (each.why for each in ruled_out if each.check == "slow_upstream")

    assert found == ()
    assert "no model is served by two upstreams" in why
    assert first(two_models("both")).subject == "there"


def test_only_the_model_that_both_serve_is_compared() -> None:
    """One upstream has a big model beside the shared one: it is not slow for that."""
    small, known = happened(asks(300, 12), {"a": times(), "b": times()})
    big, _ = happened(asks(150, 6, seed=4), {"a": times(0.8, 0.04)})
    others = [replace(each, model="big", id=f"big{each.id}") for each in big]
    found, _ = examined(gather([*small, *others], known))

    assert [each.check for each in found if each.check == "slow_upstream"] == []


def test_one_that_turned_slow_by_itself() -> None:
    """A single upstream is compared with what it was; no setting is pretended to help."""
    before, _ = happened(asks(200, 5), {"a": times()})
    after, known = happened(asks(200, 5, seed=2), {"a": times(0.8, 0.03)})
    shift = before[-1].arrived_wall_ns - START_NS + 10**9
    later = [replace(each, arrived_wall_ns=each.arrived_wall_ns + shift, id=f"l{each.id}") for each in after]
    given = gather([*before, *later], known)
    found = first(given)

    assert (found.check, found.subject, found.fixes[0].setting) == ("slow_upstream", "a", "")
    assert given.onset is not None
    assert abs(given.onset.index - 200) < 30
    assert symptoms(given)[0].since_wall_ns is not None


def test_too_few_connections() -> None:
    """Waits while the service is as quick as ever; the fix stays within what was seen."""
    found = first(
        evidence(asks(300, 12), {"a": times()}, more={"a": {"connections": 6, "wait_seconds": 60.0}})
    )

    assert (found.check, found.subject) == ("small_cap", "a")
    assert (found.fixes[0].before, found.fixes[0].after) == ("6", "9")


def test_a_blocked_loop_names_the_line() -> None:
    """Stalls that a watch has seen, and requests that were delayed by them."""
    asked = tuple(replace(each, busy=0.35 if at % 6 == 0 else 0.0) for at, each in enumerate(asks(240, 6)))
    records, known = happened(asked, {"a": times()})
    stalls = [
        StallSeen(record.arrived_wall_ns + 350_000_000, 0.35, "tokenise (app/chat.py:41)")
        for at, record in enumerate(records)
        if at % 6 == 0
    ]
    found = first(gather(records, known, stalls))
    unwatched = first(gather(records, known))

    assert (found.check, found.subject) == ("blocked_loop", "tokenise (app/chat.py:41)")
    assert unwatched.check == "blocked_loop"
    assert unwatched.against, "without a watch it says what else it may be"


def test_an_upstream_that_answers_429() -> None:
    """Named with how often and why; waiting here rather than being refused there is among the fixes."""
    refusing = {"a": Refusing(0.5, 4, None, 0.01, 429)}
    found = first(evidence(asks(300, 14), {"a": times()}, refusing=refusing))

    assert (found.check, found.subject) == ("retry_storm", "a")
    assert "429" in found.evidence[0].text
    assert found.fixes[0].setting == "models.upstreams.a.connections"
    assert int(found.fixes[0].after) == pytest.approx(4, abs=1)


@pytest.mark.parametrize(
    ("other", "weights"), [(1.0, ["0.01", "0.3"]), (20.0, ["0.2", "0.3"]), (80.0, ["0.8"])]
)
def test_a_failing_one_is_left_with_a_hundredth_of_the_others(other: float, weights: list[str]) -> None:
    """However often it is advised: with so little there is nothing less, and that is said."""
    behind = {"a": times(), "b": times()}
    refusing = {"a": Refusing(0.1, None, None, 2.0, 500)}

    def found(weight: float) -> Finding:
        more = {"a": {"weight": weight}, "b": {"weight": other}}
        given = evidence(asks(300, 14), behind, refusing=refusing)
        upstreams = settings(more).models.upstreams
        known = replace(given.settings, models=replace(given.settings.models, upstreams=upstreams))
        return first(replace(given, settings=known))

    once, again = found(1.0), found(other / 100)
    setting = "models.upstreams.a.weight"

    assert once.check == "retry_storm"
    assert [fix.after for fix in once.fixes if fix.setting == setting] == weights
    assert not once.against
    assert [fix for fix in again.fixes if fix.setting == setting] == []
    assert "sent next to nothing already" in again.against[0].text


def local(records: list[Record]) -> list[Record]:
    return [replace(each, upstream="local") for each in records]


def test_an_embedded_model_without_slots() -> None:
    """Its queue is what takes the time; a running server takes more slots."""
    records, known = happened(
        asks(200, 8), {"a": times()}, more={"a": {"connections": 4, "wait_seconds": 600.0}}
    )
    found = first(gather(local(records), known))

    assert (found.check, found.subject) == ("starved_local", "slots")
    assert (found.fixes[0].setting, found.fixes[0].is_live) == ("models.local.slots", True)


def test_an_embedded_model_whose_context_is_too_short() -> None:
    """Refusals for length are counted, and the setting that bounds it is named."""
    records, known = happened(asks(200, 5), {"a": times()})
    refused = [
        replace(each, outcome="refused", status=400, error_code="context_length_exceeded")
        if at % 5 == 0
        else each
        for at, each in enumerate(local(records))
    ]
    found = first(gather(refused, known))

    assert (found.subject, found.fixes[0].setting) == ("context_tokens", "models.local.context_tokens")


def short_of_threads(threads: int, cores: int, *, crowd: float = 0.15) -> Evidence:
    """The embedded model on so many of the cores; each request there slows the others down by `crowd` seconds."""
    records, known = happened(asks(300, 6), {"a": times(0.4, crowd=crowd)})
    models = replace(known.models, local=replace(known.models.local, threads=threads))
    return gather(local(records), replace(known, models=models), cores=cores)


def test_an_embedded_model_with_too_few_threads() -> None:
    """Named without a queue, where being there together takes the time; what it brings is not predicted, and why."""
    given = short_of_threads(1, 8)
    found = first(given)
    advice = advise(given, found)

    assert (found.check, found.subject, found.fixes[0].setting) == (
        "starved_local",
        "threads",
        "models.local.threads",
    )
    assert found.share < 1
    assert "1 of 8 cores" in found.evidence[0].text
    assert advice is not None
    assert (advice.fix, advice.prediction) == (found.fixes[0], None)
    assert "no traffic with other threads was seen" in advice.doubt


@pytest.mark.parametrize(
    ("threads", "cores", "crowd"),
    [(0, 8, 0.15), (7, 8, 0.15), (8, 8, 0.15), (1, 1, 0.15), (1, 0, 0.15), (1, 8, 0.0)],
    ids=["by itself", "one is the gateway's", "all", "one core", "cores unknown", "alone as fast"],
)
def test_threads_are_not_blamed_without_reason(threads: int, cores: int, crowd: float) -> None:
    """Where it has what it would take by itself, or requests do not slow each other."""
    assert examined(short_of_threads(threads, cores, crowd=crowd))[0] == ()


def test_a_full_cpu_speaks_against_more_threads() -> None:
    """Cores that others need are none to spare."""
    full = replace(short_of_threads(1, 8), resources=(UseRow("cpu", 0.99),))

    assert "no core to spare" in first(full).against[0].text


@pytest.mark.parametrize(
    ("factor", "after", "said"),
    [
        (1.2, "4096", "about 100% of those refused would fit"),
        (3.0, "8192", "about 100% of those refused would fit"),
        (9.0, "", "even 8192 tokens would hold 0% of what was refused"),
    ],
)
def test_a_longer_context_is_the_first_that_holds_what_was_refused(
    factor: float, after: str, said: str
) -> None:
    """Told by the size of refused prompts and the bytes a token of those that were answered."""
    records, known = happened(asks(200, 5), {"a": times()})
    sized = [replace(each, request_bytes=(each.prompt_tokens or 1) * 4) for each in local(records)]
    refused = [
        replace(
            each,
            outcome="refused",
            status=400,
            error_code="context_length_exceeded",
            prompt_tokens=None,
            request_bytes=round(factor * 2048 * 4),
        )
        if at % 5 == 0
        else each
        for at, each in enumerate(sized)
    ]
    found = first(gather(refused, known))

    assert found.fixes[0].after == after
    assert said in found.fixes[0].text


def test_few_requests_say_nothing() -> None:
    """Below the minimum there is neither a symptom nor a cause."""
    given = evidence(asks(20, 5), {"a": times(3.0)})

    assert not given.is_enough
    assert symptoms(given) == ()
