"""How an answer is shown in a terminal: a quiet line of what it took, or JSON."""

import sys

import click

from slipstream.core.completion import Completion


def print_summary(answer: Completion) -> None:
    """One dim line on standard error, only where somebody looks at it."""
    if not sys.stderr.isatty():
        return
    timings, usage = answer.timings, answer.usage
    parts = [answer.model]
    if timings.ttft_ms is not None:
        parts.append(f"{timings.ttft_ms:.0f} ms to first token")
    if usage.output is not None:
        parts.append(f"{'~' if usage.estimated else ''}{usage.output} tokens")
    if timings.tokens_per_second is not None:
        parts.append(f"{timings.tokens_per_second:.0f} tokens/s")
    parts.append(f"{timings.total_ms / 1000:.2f} s")
    click.secho(" · ".join(parts), dim=True, err=True)


def print_json(answer: Completion) -> None:
    """The answer with all that is known of it, on standard output."""
    import msgspec

    document = {
        "text": str(answer),
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "request_id": answer.request_id,
        "usage": answer.usage,
        "timings": answer.timings,
    }
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
