"""Makes the dated snapshot of model prices that the product ships, from the package `genai-prices` (MIT).

    pip install --target build/prices --no-deps genai-prices==0.2.3
    cd src/slipstream/monitoring/data
    PYTHONPATH=../../../../build/prices python ../../../../scripts/prices.py 2026-11-26 > prices-2026-11.json

A model whose price hangs on more than the number of tokens (time of day, a fee a request) is left out:
an unknown price is better than a wrong one.
"""

import datetime as dt
import importlib.metadata
import json
import sys
from decimal import Decimal
from typing import Any

from genai_prices.data import providers

HOSTS = {
    "anthropic": ["api.anthropic.com"],
    "azure": ["openai.azure.com"],
    "cerebras": ["api.cerebras.ai"],
    "cohere": ["api.cohere.ai", "api.cohere.com"],
    "deepseek": ["api.deepseek.com"],
    "fireworks": ["api.fireworks.ai"],
    "google": ["generativelanguage.googleapis.com"],
    "groq": ["api.groq.com"],
    "mistral": ["api.mistral.ai"],
    "moonshotai": ["api.moonshot.ai"],
    "openai": ["api.openai.com"],
    "together": ["api.together.xyz", "api.together.ai"],
    "x-ai": ["api.x.ai"],
}
FEES = ("requests_kcount", "input_audio_mtok", "output_audio_mtok", "output_image_mtok", "input_image_mtok")


def chosen(prices: Any, day: dt.date) -> tuple[Any, dt.date | None]:
    """The prices of a day and the day on which they end; (None, None) where dates do not say it."""
    if not isinstance(prices, list):
        return prices, None
    valid, until = None, None
    for each in prices:
        start = getattr(each.constraint, "start_date", None)
        if each.constraint is not None and start is None:
            return None, None
        if start is None or start <= day:
            valid = each.prices
        elif until is None or start < until:
            until = start
    return valid, until


def split(value: Any) -> tuple[Decimal | None, tuple[int, Decimal] | None]:
    """A price as (base, (tokens, price above)). Raises ValueError for more steps than one."""
    if value is None or isinstance(value, Decimal):
        return value, None
    if len(value.tiers) != 1:
        raise ValueError(value)
    return value.base, (value.tiers[0].start, value.tiers[0].price)


def row(model: Any, day: dt.date) -> dict[str, Any] | None:
    """What the snapshot says of a model; None for one that is left out."""
    prices, until = chosen(model.prices, day)
    if prices is None or prices.input_mtok is None or any(getattr(prices, fee, None) for fee in FEES):
        return None
    made: dict[str, Any] = {}
    above: dict[str, Any] = {}
    try:
        for name, field in (
            ("input", "input_mtok"),
            ("output", "output_mtok"),
            ("cached", "cache_read_mtok"),
        ):
            base, tier = split(getattr(prices, field))
            if base is not None:
                made[name] = float(base)
            if tier is not None:
                above["tokens"] = tier[0]
                above[name] = float(tier[1])
    except ValueError:
        return None
    if above:
        made["above"] = above
    if until is not None:
        made["until"] = until.isoformat()
    return made


def names(model: Any) -> list[str]:
    """The names that a request may ask for it by: only whole ones, no patterns."""
    clauses = getattr(model.match, "or_", [model.match])
    equal = [clause.equals for clause in clauses if hasattr(clause, "equals")]
    return sorted({model.id, *equal})


def main() -> None:
    """Print the snapshot."""
    day = dt.date.fromisoformat(sys.argv[1])
    version = importlib.metadata.version("genai-prices")
    made: dict[str, Any] = {
        "as_of": day.isoformat(),
        "currency": "USD",
        "per_tokens": 1_000_000,
        "made_from": f"genai-prices {version} (MIT, Pydantic Services Inc.)",
        "providers": {},
    }
    for provider in providers:
        if provider.id not in HOSTS:
            continue
        rows = {}
        for model in provider.models:
            found = row(model, day)
            if found is not None:
                rows.update(dict.fromkeys(names(model), found))
        made["providers"][provider.id] = {
            "hosts": HOSTS[provider.id],
            "sources": list(provider.pricing_urls or ()),
            "models": dict(sorted(rows.items())),
        }
    print(layout(made))


def layout(made: dict[str, Any]) -> str:
    """JSON with one line a model, so that a new snapshot can be read as a difference."""
    lines = ["{"]
    lines += [
        f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in made.items() if key != "providers"
    ]
    lines.append('  "providers": {')
    for index, (name, provider) in enumerate(made["providers"].items()):
        lines.append(f"    {json.dumps(name)}: {{")
        lines.append(f'      "hosts": {json.dumps(provider["hosts"])},')
        lines.append(f'      "sources": {json.dumps(provider["sources"])},')
        lines.append('      "models": {')
        rows = [
            f"        {json.dumps(key)}: {json.dumps(value)}" for key, value in provider["models"].items()
        ]
        lines.append(",\n".join(rows))
        lines.append("      }")
        lines.append("    }" + ("," if index + 1 < len(made["providers"]) else ""))
    return "\n".join([*lines, "  }", "}"])


if __name__ == "__main__":
    main()
