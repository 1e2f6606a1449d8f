"""What a finished request adds to the metrics: some twenty additions to a slab, about 4 µs.

It reads the closed record and nothing else; which series a request belongs to is looked up once for each
route, model and upstream. It does not know who reads the numbers.
"""

import math

from slipstream.core import clock
from slipstream.core.histogram import TINY
from slipstream.core.metrics import OTHER
from slipstream.core.ports import RecordSink
from slipstream.core.record import Record
from slipstream.monitoring.meter import add
from slipstream.monitoring.slab import Slab

PLANS_MAX = 512
"""Routes times models times upstreams that are remembered; more go to `__other__`."""
WORDS_MAX = 256
"""The same for kinds of errors and limits."""

_WAITS = frozenset({"wait", "back_off"})
_OUTCOMES = ("aborted", "served", "hit", "shared", "refused", "failed")


Plan = tuple[int, int, int, int, int, int, int, int, int, int, int, int]
"""First cells of what a route, model and upstream share: requests, response time, time to first token,
inter-token latency, upstream's time, tokens in, out and cached, cost, cost unknown, length of prompt and
answer. A tuple with places, because it is read fastest."""


class RequestRecorder:
    """Adds requests to a slab. For the slab's own thread."""

    def __init__(self, slab: Slab) -> None:
        self._slab = slab
        self._cells = slab.cells
        self._plans: dict[tuple[str, str, str], Plan] = {}
        self._errors: dict[tuple[str, str, str], int] = {}
        self._limits: dict[str, int] = {}
        self._outcomes = {outcome: slab.place("outcomes", outcome) for outcome in _OUTCOMES}
        self._overhead = slab.place("gateway_overhead")
        self._queue_wait = slab.place("queue_wait")
        self._request_bytes = slab.place("request_bytes")
        self._response_bytes = slab.place("response_bytes")
        self._own_cost = slab.place("monitor_overhead")

    def finish(self, record: Record) -> None:
        """Add a closed record. Refused requests have no response time: they would hide slow answers."""
        begun_ns = clock.monotonic_ns() if not record.duration_ns & 15 else 0
        cells = self._cells
        plan = self._plans.get((record.route, record.model, record.upstream)) or self._plan(record)
        outcome = record.outcome
        cells[plan[0]] += 1
        cells[self._outcomes[outcome]] += 1
        cells[self._request_bytes] += record.request_bytes
        cells[self._response_bytes] += record.response_bytes
        if outcome == "refused":
            self._refused(record)
        else:
            if outcome == "failed":
                self._failed(record)
            add(cells, plan[1], record.duration_ns)
        first_token_ns = record.first_token_ns
        if first_token_ns is not None:
            add(cells, plan[2], first_token_ns)
            gap_ns = record.chunk_gap_mean_ns
            if gap_ns is not None:
                add(cells, plan[3], gap_ns)
        steps = record.steps
        if len(steps) == 6 and steps[4].name == "first_byte" and steps[5].name == "relay":
            model_ns = steps[3].duration_ns + steps[4].duration_ns  # nearly always: one attempt, no wait
            add(cells, plan[4], model_ns)
            add(cells, self._overhead, steps[5].start_ns - model_ns)
            if record.queue_wait_ns:
                add(cells, self._queue_wait, record.queue_wait_ns)
        elif record.upstream:
            self._steps(record, plan[4])
        if record.output_tokens is not None or record.prompt_tokens is not None:
            self._tokens(record, plan)
        if begun_ns:  # one of sixteen tells what this costs; to time each would cost a tenth of it
            add(cells, self._own_cost, clock.monotonic_ns() - begun_ns)

    def _steps(self, record: Record, upstream_time: int) -> None:
        """What the way took before the first byte, apart from the model and from waiting for one."""
        model_ns = last_ns = waited_ns = 0
        relay_ns = -1
        for step in record.steps:
            name = step.name
            if name == "open":
                last_ns = step.duration_ns
            elif name == "first_byte":
                last_ns += step.duration_ns
                model_ns += last_ns
            elif name == "relay":
                relay_ns = step.start_ns
            elif name in _WAITS:
                waited_ns += step.duration_ns
        if model_ns:
            add(self._cells, upstream_time, last_ns)
            if relay_ns > 0:
                add(self._cells, self._overhead, relay_ns - model_ns - waited_ns)
        waited_ns = record.queue_wait_ns or waited_ns
        if waited_ns:
            add(self._cells, self._queue_wait, waited_ns)

    def _tokens(self, record: Record, plan: Plan) -> None:
        cells = self._cells
        cost = record.cost
        if record.prompt_tokens:
            cells[plan[5]] += record.prompt_tokens
            add(cells, plan[10], record.prompt_tokens * TINY)
        if record.output_tokens:
            cells[plan[6]] += record.output_tokens
            add(cells, plan[11], record.output_tokens * TINY)
        if record.cached_tokens:
            cells[plan[7]] += record.cached_tokens
        if cost is None:
            cells[plan[9]] += 1
        elif 0 <= cost < math.inf:
            cells[plan[8]] += cost

    def _plan(self, record: Record) -> Plan:
        route, model, upstream = record.route, record.model, record.upstream
        if len(self._plans) >= PLANS_MAX:
            route, model, upstream = OTHER, OTHER, OTHER
        place = self._slab.place
        plan = (
            place("requests", route, model, upstream),
            place("response_time", "gateway", model),
            place("ttft", model),
            place("itl", model),
            place("upstream_time", upstream),
            place("tokens_input", model),
            place("tokens_output", model),
            place("tokens_cached", model),
            place("cost", model),
            place("cost_unknown", model),
            place("prompt_length", model),
            place("answer_length", model),
        )
        if len(self._plans) <= PLANS_MAX:
            self._plans[route, model, upstream] = plan
        return plan

    def _failed(self, record: Record) -> None:
        key = (record.error_code or record.error_type, record.model, record.upstream)
        at = self._errors.get(key)
        if at is None:
            at = self._slab.place("errors", *(key if len(self._errors) < WORDS_MAX else (OTHER,) * 3))
            if len(self._errors) < WORDS_MAX:
                self._errors[key] = at
        self._cells[at] += 1

    def _refused(self, record: Record) -> None:
        word = record.error_code or record.error_type
        at = self._limits.get(word)
        if at is None:
            at = self._slab.place("refusals", word if len(self._limits) < WORDS_MAX else OTHER)
            if len(self._limits) < WORDS_MAX:
                self._limits[word] = at
        self._cells[at] += 1


class MeasuredSink:
    """A `RecordSink` that measures each record and passes it on."""

    __slots__ = ("_finish", "_take")

    def __init__(self, requests: RequestRecorder, inner: RecordSink) -> None:
        self._finish = requests.finish
        self._take = inner.take

    def take(self, record: Record) -> None:
        """Measure `record` and pass it on."""
        self._finish(record)
        self._take(record)
