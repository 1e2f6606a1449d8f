"""`slipstream ask "…"`: one question; the answer on standard output, its timings on standard error."""

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from slipstream.library import Options


@click.command()
@click.argument("question", required=False)
@click.option("--model", "-m", default="", help="Model to ask; else the default one.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer, in tokens.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="How freely it chooses its words.")
@click.option("--server", default="", metavar="URL", help="Live server to use, by URL or process id.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer with its usage and timings as JSON.")
def ask(
    question: str | None,
    model: str,
    max_tokens: int | None,
    temperature: float | None,
    *,
    server: str,
    as_json: bool,
) -> None:
    """Ask the assistant QUESTION; without one, standard input is read.

    Uses the running server, or the embedded model inside this process where there is none.
    """
    from slipstream import library

    if question is None:
        question = "" if sys.stdin.isatty() else sys.stdin.read()
    if not question.strip():
        raise click.UsageError(
            'The question is empty. Ask something: slipstream ask "What is the capital of France?"'
        )
    options = library.Options(model=model, server=server, max_tokens=max_tokens, temperature=temperature)
    asyncio.run(_ask(question, options, as_json=as_json))


async def _ask(question: str, options: "Options", *, as_json: bool) -> None:
    from slipstream.cli.speak import print_json, print_summary
    from slipstream.core.completion import Completion
    from slipstream.library import stream_response

    async with contextlib.aclosing(stream_response(question, options)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Completion):
                if as_json:
                    print_json(piece)
                else:
                    click.echo()
                    print_summary(piece)
            elif not as_json:
                click.echo(piece, nl=False)
