"""`slipstream chat`: a conversation in the terminal, streamed; Ctrl-C stops an answer, Ctrl-D ends it all."""

import asyncio
import contextlib
import importlib
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from slipstream.library import Options

HISTORY_MAX = 200
"""Messages kept of a conversation; the oldest pair is forgotten beyond it."""

HELP = (
    "/new begins afresh · /model NAME changes the model · /help · /exit (or Ctrl-D) · Ctrl-C stops an answer"
)


@click.command()
@click.option("--model", "-m", default="", help="Model to talk to; else the default one.")
@click.option("--server", default="", metavar="URL", help="Live server to use, by URL or process id.")
@click.option("--system", default="", help="System prompt of the conversation.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="How freely it chooses its words.")
def chat(model: str, server: str, system: str, temperature: float | None) -> None:
    """Talk with the assistant.

    Uses the running server, or the embedded model inside this process where there is none.
    """
    from slipstream import library

    click.secho(HELP, dim=True, err=True)
    conversation = Conversation(library.Options(model=model, server=server, temperature=temperature), system)
    while conversation.going:
        try:
            line = sys.stdin.readline() if not _interactive() else input("› ")
        except EOFError:
            break
        except KeyboardInterrupt:
            click.echo(err=True)
            continue
        if not line:
            break
        conversation.take(line.strip())
    click.echo(err=True)


class Conversation:
    """The messages so far, and what a line typed by the person does."""

    def __init__(self, options: "Options", system: str = "") -> None:
        self.going = True
        self._options = options
        self._first = [{"role": "system", "content": system}] if system else []
        self._messages: list[dict[str, str]] = []

    def take(self, line: str) -> None:
        """A command, or something to say."""
        import msgspec

        word, _, rest = line.partition(" ")
        if word in ("/exit", "/quit"):
            self.going = False
        elif word == "/new":
            self._messages.clear()
            click.secho("A new conversation.", dim=True, err=True)
        elif word == "/model":
            self._options = msgspec.structs.replace(self._options, model=rest.strip())
            click.secho(f"Now talking to {rest.strip() or 'the default model'}.", dim=True, err=True)
        elif word.startswith("/"):
            click.secho(HELP, dim=True, err=True)
        elif line:
            self._say(line)

    def _say(self, line: str) -> None:
        from slipstream.core.errors import SlipstreamError

        self._messages.append({"role": "user", "content": line})
        heard: list[str] = []
        try:
            asyncio.run(self._answer(heard))
        except KeyboardInterrupt:
            click.secho(" (stopped)", dim=True, err=True)
        except SlipstreamError as error:
            click.secho(f"\n{error}", fg="red", err=True)
        if not heard:  # a question without an answer is not asked again beneath the next one
            self._messages.pop()
            return
        self._messages.append({"role": "assistant", "content": "".join(heard)})
        del self._messages[:-HISTORY_MAX]

    async def _answer(self, heard: list[str]) -> None:
        from slipstream.cli.speak import print_summary
        from slipstream.core.completion import Completion
        from slipstream.library import stream_response

        said = stream_response([*self._first, *self._messages], self._options)
        async with contextlib.aclosing(said) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    click.echo()
                    print_summary(piece)
                else:
                    heard.append(piece)
                    click.echo(piece, nl=False)


def _interactive() -> bool:
    if not sys.stdin.isatty():
        return False
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # gives `input` its line editing and history
    return True
