"""What our metrics are called elsewhere: one table for OpenTelemetry's conventions, one rule for Prometheus.

The names are those of the GenAI semantic conventions as of 1.41.0 (what PyPI's packages ship and
dashboards read); with `OTEL_SEMCONV_STABILITY_OPT_IN` set to `gen_ai_latest_experimental` the unreleased
renamed ones of open-telemetry/semantic-conventions-genai, with `gen_ai_dup` both. All of it is experimental.
"""

import os
from collections.abc import Iterator, Mapping

from msgspec import Struct

from slipstream.core.metrics import Metric

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
LATEST, BOTH = "gen_ai_latest_experimental", "gen_ai_dup"

OPERATIONS = {"chat/completions": "chat", "completions": "text_completion", "embeddings": "embeddings"}
"""A record's route as `gen_ai.operation.name`."""

PROVIDERS = {
    "anthropic": "anthropic", "azure": "azure.ai.openai", "cohere": "cohere", "deepseek": "deepseek",
    "google": "gcp.gemini", "groq": "groq", "mistral": "mistral_ai", "openai": "openai",
    "perplexity": "perplexity", "x-ai": "x_ai", "local": "llama_cpp",
}  # fmt: skip
"""Names that the conventions have for providers; any other name is a custom one, which they allow."""


class Convention(Struct, frozen=True):
    """How one of our histograms goes by the conventions' name."""

    metric: str
    name: str
    latest: str
    unit: str
    factor: float
    """What our unit is multiplied with."""
    series: tuple[tuple[str, str], ...] = ()
    """Only the series with these labels."""
    attributes: tuple[tuple[str, str], ...] = ()
    """What the name as of 1.41 has besides, where the latest one says it itself."""


_GATEWAY = (("source", "gateway"),)
_CLIENT = "gen_ai.client.operation"
_INFERENCE = "gen_ai.client.inference"

_REQUEST = "gen_ai.server.request.duration"
_ITL = "gen_ai.server.time_per_output_token"
_TOKENS = "gen_ai.client.token.usage"
_INPUT, _OUTPUT = (("gen_ai.token.type", "input"),), (("gen_ai.token.type", "output"),)

CONVENTIONS: tuple[Convention, ...] = (
    Convention("response_time", f"{_CLIENT}.duration", f"{_INFERENCE}.duration", "s", 1e-3, _GATEWAY),
    Convention("response_time", _REQUEST, _REQUEST, "s", 1e-3, _GATEWAY),
    Convention("ttft", f"{_CLIENT}.time_to_first_chunk", f"{_INFERENCE}.time_to_first_chunk", "s", 1e-3),
    Convention("ttft", "gen_ai.server.time_to_first_token", "gen_ai.server.time_to_first_token", "s", 1e-3),
    Convention("itl", f"{_CLIENT}.time_per_output_chunk", f"{_INFERENCE}.time_per_output_chunk", "s", 1e-3),
    Convention("itl", _ITL, _ITL, "s", 1e-3),
    Convention("prompt_length", _TOKENS, f"{_INFERENCE}.operation.input_tokens", "{token}", 1.0, (), _INPUT),
    Convention(
        "answer_length", _TOKENS, f"{_INFERENCE}.operation.output_tokens", "{token}", 1.0, (), _OUTPUT
    ),
)

ATTRIBUTES = {"model": "gen_ai.request.model", "upstream": "gen_ai.provider.name", "error_type": "error.type"}
"""Our labels as attributes; any other goes as `slipstream.NAME`."""

UNITS = {
    "ms": ("s", "_seconds", 1e-3),
    "%": ("1", "_ratio", 1e-2),
    "1": ("1", "_ratio", 1.0),
    "bytes": ("By", "_bytes", 1.0),
    "tokens": ("{token}", "_tokens", 1.0),
    "requests": ("{request}", "", 1.0),
    "USD": ("USD", "_usd", 1.0),
    "W": ("W", "_watts", 1.0),
    "°C": ("Cel", "_celsius", 1.0),
    "cores": ("{cpu}", "_cores", 1.0),
}
"""Our unit as UCUM's, as the ending of a Prometheus name, and what to multiply with."""


class Exported(Struct, frozen=True):
    """How a metric is called outside."""

    prometheus: str
    """Without `_total`, `_bucket` and the like."""
    otel: str
    unit: str
    """UCUM."""
    factor: float


def exported(metric: Metric) -> Exported:
    """The name of any metric for Prometheus and, where the conventions have none, for OpenTelemetry."""
    unit, ending, factor = UNITS.get(metric.unit, (f"{{{metric.unit}}}" if metric.unit else "1", "", 1.0))
    word = ending.strip("_")
    name = metric.name if not word or word in metric.name.split("_") else metric.name + ending
    return Exported(f"slipstream_{name}", f"slipstream.{metric.name}", unit, factor)


def names_of(convention: Convention, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """The names under which a convention's metric is sent, by the environment's choice."""
    chosen = (os.environ if environ is None else environ).get(OPT_IN, "").replace(" ", "").split(",")
    if BOTH in chosen or LATEST not in chosen:
        yield convention.name
    if (BOTH in chosen or LATEST in chosen) and (convention.latest != convention.name or BOTH not in chosen):
        yield convention.latest


def attribute(label: str) -> str:
    """The attribute that one of our labels goes by."""
    return ATTRIBUTES.get(label, f"slipstream.{label}")


def provider(upstream: str) -> str:
    """The conventions' name of a provider, as far as an upstream is named after one."""
    return PROVIDERS.get(upstream, upstream)


def operation(route: str) -> str:
    """The conventions' name of what a route does."""
    return OPERATIONS.get(route, route or "unknown")
