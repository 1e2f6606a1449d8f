"""One run told in the words of other load tools: `vllm`, `aiperf`, `guidellm`, each by its own definitions.

Where tools use one name for different things, this is how to compare with them. docs/load-testing.md has
the table. All take the time from when a request was sent, and count only requests with a whole answer.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipstream.core.errors import BadRequest
from slipstream.testing.load.samples import Samples

Dialect = Literal["vllm", "aiperf", "guidellm"]
Floats = NDArray[np.float64]


class Row(Struct, frozen=True):
    """One line of a tool's table; None = the tool would show nothing."""

    name: str
    value: float | None


def told_as(tool: str, samples: Samples) -> list[Row]:
    """The table of a tool. Raises `BadRequest` for one that is not known."""
    tables: dict[str, Callable[[Samples], list[Row]]] = {
        "vllm": _vllm,
        "aiperf": _aiperf,
        "guidellm": _guidellm,
    }
    if tool not in tables:
        raise BadRequest(f"`{tool[:40]}` is not known.", hint=f"There are: {', '.join(tables)}.")
    return tables[tool](samples.select(samples.ok))


def _vllm(ok: Samples) -> list[Row]:
    """`vllm bench serve`: TPOT over the whole end-to-end time, ITL = all gaps between chunks in one pool."""
    rows = [
        Row("Successful requests", float(len(ok))),
        Row("Benchmark duration (s)", _span(ok)),
        Row("Request throughput (req/s)", _rate(len(ok), ok)),
        Row("Output token throughput (tok/s)", _rate(_tokens(ok), ok)),
    ]
    e2e, ttft = _ms(ok.done_ns, ok.sent_ns), _ms(ok.first_content_ns, ok.sent_ns)
    tokens = ok.output_tokens
    tpot = _divided(e2e - ttft, np.where(tokens > 1, tokens - 1, 0))
    for name, values in (("TTFT", ttft), ("TPOT", tpot), ("ITL", ok.pooled_gaps_ns() / 1e6), ("E2EL", e2e)):
        rows += [
            Row(f"Mean {name} (ms)", _mean(values)),
            Row(f"Median {name} (ms)", _quantile(values, 0.5)),
            Row(f"P99 {name} (ms)", _quantile(values, 0.99)),
        ]
    return rows


def _aiperf(ok: Samples) -> list[Row]:
    """AIPerf: end to end to the last content; ITL a request, over its output tokens less one."""
    latency, ttft = _ms(ok.last_content_ns, ok.sent_ns), _ms(ok.first_content_ns, ok.sent_ns)
    tokens = ok.output_tokens
    itl = _divided(latency - ttft, np.where(tokens > 1, tokens - 1, 0))
    rows = []
    for name, values in (
        ("Time to First Token", ttft),
        ("Request Latency", latency),
        ("Inter Token Latency", itl),
        ("Inter Chunk Latency", ok.pooled_gaps_ns() / 1e6),
    ):
        rows += [
            Row(f"{name} avg (ms)", _mean(values)),
            Row(f"{name} p50 (ms)", _quantile(values, 0.5)),
            Row(f"{name} p99 (ms)", _quantile(values, 0.99)),
        ]
    return [
        *rows,
        Row("Output Token Throughput (tokens/sec)", _rate(_tokens(ok), ok)),
        Row("Request Throughput (requests/sec)", _rate(len(ok), ok)),
        Row("Request Count", float(len(ok))),
    ]


def _guidellm(ok: Samples) -> list[Row]:
    """GuideLLM: TPOT contains the time to first token; ITL from first to last content."""
    tokens = ok.output_tokens
    between = _ms(ok.last_content_ns, ok.first_content_ns)
    rows = []
    for name, values in (
        ("Request Latency", _ms(ok.done_ns, ok.sent_ns)),
        ("TTFT", _ms(ok.first_content_ns, ok.sent_ns)),
        ("ITL", _divided(between, np.where(tokens > 1, tokens - 1, 0))),
        ("TPOT", _divided(_ms(ok.last_content_ns, ok.sent_ns), np.maximum(tokens, 0))),
    ):
        rows += [
            Row(f"{name} Mean (ms)", _mean(values)),
            Row(f"{name} Mdn (ms)", _quantile(values, 0.5)),
            Row(f"{name} p95 (ms)", _quantile(values, 0.95)),
        ]
    return [*rows, Row("Requests/s", _rate(len(ok), ok)), Row("Output tok/s", _rate(_tokens(ok), ok))]


def _ms(later: NDArray[np.int64], earlier: NDArray[np.int64]) -> Floats:
    known = (later >= 0) & (earlier >= 0)
    out: Floats = np.where(known, (later - earlier) / 1e6, np.nan)
    return out


def _divided(times: Floats, counts: NDArray[np.int32]) -> Floats:
    out: Floats = np.full(len(times), np.nan)
    np.divide(times, counts, out=out, where=counts > 0)
    return out


def _mean(values: Floats) -> float | None:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def _quantile(values: Floats, share: float) -> float | None:
    values = values[~np.isnan(values)]
    return float(np.quantile(values, share)) if len(values) else None


def _tokens(ok: Samples) -> int:
    return int(ok.output_tokens[ok.output_tokens > 0].sum())


def _span(ok: Samples) -> float | None:
    """From the first request sent to the last answer, in seconds."""
    return float(ok.done_ns.max() - ok.sent_ns.min()) / 1e9 if len(ok) else None


def _rate(count: int, ok: Samples) -> float | None:
    span = _span(ok)
    return count / span if span else None
