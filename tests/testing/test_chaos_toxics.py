"""Toxics and links on virtual time: what goes in at which time, what comes out when."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.errors import ConfigurationError
from slipstream.testing.chaos_faults import SseReset, Toxic
from slipstream.testing.chaos_grammar import parse
from slipstream.testing.chaos_link import Link
from slipstream.testing.chaos_set import FaultSet
from slipstream.testing.chaos_toxics import Cut, machine

MS = 1_000_000


def link(*lines, seed=1, most_bytes=1 << 20):
    """A link with these toxics, and the names of its faults."""
    faults = FaultSet(seed)
    faults.replace(lines, 0)
    made = Link(most_bytes)
    stages = []
    for fault in faults.all():
        assert isinstance(fault, Toxic)
        stages.append(machine(fault, random.Random(f"{seed}/{fault.name}"), 0))
    made.fit(stages, {fault.name for fault in faults.all()})
    return made


def run(made, until=10**15):
    """Everything that comes out, with its time in ms, driven by `wake_at` alone."""
    now, out = 0, []
    while True:
        piece = made.take(now)
        if piece is not None:
            out.append((now / MS, piece))
            if piece in {Cut.RESET, Cut.CLOSE}:
                return out
        elif made.wake_at is None or made.wake_at > until:
            return out
        else:
            assert made.wake_at > now
            now = made.wake_at


def fed(made, *pieces):
    for at_ms, piece in pieces:
        made.feed(int(at_ms * MS), piece)
    return run(made)


def test_without_toxics_everything_passes_at_once():
    """Pieces keep their time and order."""
    assert fed(link(), (0, b"a"), (0, b"b"), (0, Cut.FIN)) == [(0, b"a"), (0, b"b"), (0, Cut.FIN)]


def test_latency_shifts_pieces_and_the_end():
    """Each by the same time; the gaps stay."""
    out = fed(link("latency,ms=200"), (0, b"a"), (50, b"b"), (60, Cut.FIN))
    assert out == [(200, b"a"), (250, b"b"), (260, Cut.FIN)]


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.integers(0, 10**6))
def test_jitter_stays_in_its_range_and_keeps_the_order(gaps, seed):
    """Every piece within ms +- jitter of its time or right behind its forerunner, never before it."""
    made, at, sent = link("latency,ms=30,jitter=20", seed=seed), 0, []
    for number, gap in enumerate(gaps):
        at += gap
        sent.append((at, bytes([number])))
    out = fed(made, *sent)
    assert [piece for _, piece in out] == [piece for _, piece in sent]
    latest = 0
    for (left, _), (came, _) in zip(out, sent, strict=True):
        assert came + 10 <= left <= max(came + 50, latest)
        latest = left


def test_bandwidth_spreads_bytes_evenly():
    """1,000 bytes at 1,000 bytes a second take a second, in portions of 50 ms."""
    out = fed(link("bandwidth,bytes_per_second=1000"), (0, b"x" * 1000), (0, Cut.FIN))
    assert [(when, len(piece)) for when, piece in out[:-1]] == [(50 * n, 50) for n in range(1, 21)]
    assert out[-1] == (1000, Cut.FIN)


def test_a_byte_a_second():
    """The slowest line there is."""
    out = fed(link("bandwidth,bytes_per_second=1"), (0, b"abc"))
    assert out == [(1000, b"a"), (2000, b"b"), (3000, b"c")]


def test_slow_close_delays_the_end_alone():
    """The bytes are not touched."""
    assert fed(link("slow_close,ms=70"), (0, b"a"), (0, Cut.FIN)) == [(0, b"a"), (70, Cut.FIN)]


def test_timeout_holds_for_ever_or_closes():
    """0 = nothing is ever due; else one clean close."""
    assert fed(link("timeout"), (0, b"a")) == []
    assert fed(link("timeout,ms=40"), (0, b"a")) == [(40, Cut.CLOSE)]


def test_a_hold_ends_when_its_fault_goes_and_not_when_another_does():
    """Nothing that was held is lost, and nothing comes twice."""
    made = link("timeout", "split,mean=4")
    assert fed(made, (0, b"ab"), (0, Cut.FIN)) == []
    assert made.held
    made.fit([], {"timeout_down"})
    assert run(made) == []
    made.fit([], set())
    out = run(made)
    assert (b"".join(piece for _, piece in out[:-1]), out[-1][1]) == (b"ab", Cut.FIN)


@pytest.mark.parametrize("size", [1, 5, 10, 11])
def test_cuts_after_bytes_are_exact_however_the_bytes_come(size):
    """`bytes` of them pass, whole and no more; then the cut."""
    sent = [(0, b"01234"), (0, b"56789"), (0, Cut.FIN)]
    for line, cut in [(f"limit_data,bytes={size}", Cut.CLOSE), (f"reset_peer,bytes={size}", Cut.RESET)]:
        out = fed(link(line), *sent)
        passed = b"".join(piece for _, piece in out if isinstance(piece, bytes))
        assert passed == b"0123456789"[:size]
        assert out[-1][1] is (cut if size <= 10 else Cut.FIN)


def test_a_timed_reset_strikes_whatever_waits():
    """Even in front of bytes that another toxic delays."""
    assert fed(link("latency,ms=500", "reset_peer,ms=100"), (0, b"a")) == [(100, Cut.RESET)]
    assert link("reset_peer,ms=100").overdue(100 * MS) is Cut.RESET
    assert link("reset_peer,ms=100").overdue(99 * MS) is None


def test_toxics_act_one_after_the_other():
    """First sliced, then each slice on a slow line."""
    out = fed(link("slicer,size=2", "bandwidth,bytes_per_second=20"), (0, b"abcd"))
    assert out == [(50, b"a"), (100, b"b"), (150, b"c"), (200, b"d")]


def cuts(pieces):
    ends, at = set(), 0
    for piece in pieces:
        at += len(piece)
        ends.add(at)
    return ends


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.binary(min_size=1, max_size=400),
    st.lists(st.integers(1, 100), max_size=8),
    st.sampled_from(["split,mean=1", "split,mean=5", "split,mean=40", "slicer,size=7,variation=6"]),
    st.integers(0, 99),
)
def test_the_seed_alone_says_where_the_stream_is_cut(data, reads, line, seed):
    """The same bytes in other reads are cut at the same offsets, and none is lost or changed."""
    whole = [piece for _, piece in fed(link(line, seed=seed), (0, data))]
    parts, rest = [], data
    for size in reads:
        parts.append(rest[:size])
        rest = rest[size:]
    parts = [part for part in [*parts, rest] if part]
    sliced = [piece for _, piece in fed(link(line, seed=seed), *((0, part) for part in parts))]
    assert b"".join(whole) == b"".join(sliced) == data
    assert cuts(sliced) == cuts(whole) | cuts(parts)


def test_split_means_what_it_says():
    """The mean size over many slices is the one asked for; at 1 every byte stands alone."""
    sizes = [len(piece) for _, piece in fed(link("split,mean=16"), (0, bytes(160_000)))]
    assert 15 < sum(sizes) / len(sizes) < 17
    assert min(sizes) == 1
    assert {len(piece) for _, piece in fed(link("split,mean=1"), (0, bytes(100)))} == {1}


def test_a_slow_line_makes_its_reader_pause_and_go_on():
    """`full` follows the bytes that wait, not the bytes that came."""
    made = link("bandwidth,bytes_per_second=1000", most_bytes=600)
    made.feed(0, b"x" * 60)
    assert not made.full
    made.feed(0, b"x" * 60)
    assert made.full  # a piece costs its bytes and some 256 for itself
    while made.full:
        made.take(made.wake_at or 0)
    assert not made.full


def test_dice_do_not_depend_on_other_faults():
    """A fault added in front changes nothing about whom another strikes."""
    alone, together = FaultSet(5), FaultSet(5)
    alone.replace(["sse_reset@1,rate=0.5"], 0)
    together.replace(["split", "http_hang,rate=0.5", "sse_reset@1,rate=0.5"], 0)

    def struck(faults):
        (fault,) = [fault for fault in faults.all() if isinstance(fault, SseReset)]
        return [faults.draw(fault, 0, number) is not None for number in range(200)]

    assert struck(alone) == struck(together)
    assert 60 < sum(struck(alone)) < 140


def test_times_bounds_the_strikes():
    """After so many the fault strikes no more, and the count says so."""
    faults = FaultSet(0)
    fault = faults.add("http_reset,times=3", 0)
    assert [faults.strike(fault, number) is not None for number in range(5)] == [True] * 3 + [False] * 2
    assert faults.hits == {"http_reset": 3}


def test_windows_are_half_open_and_count_from_when_the_fault_was_set():
    """Active from `from` on, and no more at `to`; the edges are announced."""
    second = 1_000_000_000
    faults = FaultSet(0)
    faults.add("split,from=10,to=20", 5 * second)
    edges = []
    now = 0
    while (edge := faults.next_edge(now)) is not None:
        edges.append(edge // second)
        now = edge
    assert edges == [15, 25]
    active = [bool(faults.active(at * second)) for at in (14, 15, 24, 25)]
    assert active == [False, True, True, False]


def test_names_are_given_and_kept_apart():
    """The kind and direction name a fault; a second one gets a number; a taken name is refused."""
    faults = FaultSet(0)
    faults.replace(["split:up", "split", "split", "http_hang,name=stall", "http_hang"], 0)
    assert [fault.name for fault in faults.all()] == [
        "split_up",
        "split_down",
        "split_down_2",
        "stall",
        "http_hang",
    ]
    with pytest.raises(ConfigurationError):
        faults.add("latency,ms=1,name=stall", 0)


def test_the_number_of_faults_is_bounded():
    """64, and the list before stays."""
    faults = FaultSet(0)
    faults.replace(["split"], 0)
    with pytest.raises(ConfigurationError):
        faults.replace(["split"] * 65, 0)
    assert len(faults.all()) == 1


def test_a_fault_built_by_hand_is_checked_too():
    """Ranges hold for structs as for text."""
    good = parse("split")
    assert isinstance(good, Toxic)
    with pytest.raises(ConfigurationError):
        FaultSet(0).add(type(good)(rate=7.0), 0)
