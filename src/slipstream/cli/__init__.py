"""The `slipstream` command: a table of names, and what holds for every command of it.

A command's module is imported when it runs and not before, so that `--help` stays quick.
"""

import contextlib
import difflib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from slipstream.core.errors import SlipstreamError

if TYPE_CHECKING:
    from slipstream.config.load import Loaded
    from slipstream.config.settings import Settings


class Row(NamedTuple):
    """One command: where it lives, and its line in the help."""

    target: str
    help: str


TABLE: dict[str, Row] = {
    "alerts": Row("slipstream.cli.alerts:alerts", "See, try and silence alert rules."),
    "ask": Row("slipstream.cli.ask:ask", "Ask one question, print the answer as it comes."),
    "chaos": Row("slipstream.cli.chaos:chaos", "Put a fault proxy in front of a server."),
    "chat": Row("slipstream.cli.chat:chat", "Talk to a model in the terminal."),
    "config": Row("slipstream.cli.config:config", "Show, explain or write the settings."),
    "doctor": Row("slipstream.cli.doctor:doctor", "Say what is slow, with evidence."),
    "keys": Row("slipstream.cli.keys:keys", "Make, list and revoke API keys."),
    "load": Row("slipstream.cli.load:load", "Test how a server does under load."),
    "mark": Row("slipstream.cli.mark:mark", "Mark a moment, such as a deploy, in the charts."),
    "models": Row("slipstream.cli.models:models", "List the models that requests can ask for."),
    "open": Row("slipstream.cli.open:open_command", "Open the pages of the running server."),
    "profile": Row("slipstream.cli.profile:profile", "Show where a server's time and memory go."),
    "pull": Row("slipstream.cli.pull:pull", "Fetch the embedded model."),
    "replay": Row("slipstream.cli.replay:replay", "Play recorded traffic against a server."),
    "serve": Row("slipstream.cli.serve:serve", "Run the assistant's server."),
    "simulate": Row("slipstream.cli.simulate:simulate", "Run a scripted model server, for dry runs."),
    "stress": Row("slipstream.cli.stress:stress", "Find the limit of a server."),
    "top": Row("slipstream.cli.top:top", "Show what a running server does, live."),
    "version": Row("slipstream.cli.version:version", "Show the versions of everything that matters here."),
}

FAILED = 1
MISUSED = 2
INTERRUPTED = 130

_HELP_ASKED: type[click.UsageError] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""How click from 8.2 on says that a group was called without a command; older ones print the help."""


class Commands(click.Group):
    """The commands of `TABLE`; only the one that runs is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, sorted."""
        return sorted(TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        return resolve(cmd_name) if cmd_name in TABLE else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; a wrong name is answered with the nearest right one."""
        if args and args[0] not in TABLE and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], TABLE, n=1, cutoff=0.5)
            meant = f" Did you mean `{close[0]}`?" if close else ""
            raise click.UsageError(f"There is no command `{args[0]}`.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help lines, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, TABLE[name].help) for name in sorted(TABLE)])


def resolve(name: str) -> click.Command:
    """The command that a row of the table points at."""
    module, _, attribute = TABLE[name].target.partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file; else $SLIPSTREAM_CONFIG, else slipstream.toml here.",
)
@click.version_option(package_name="slipstream", message="slipstream %(version)s")
@click.pass_context
def slipstream(context: click.Context, config: Path | None) -> None:
    """The performance layer for AI assistants.

    Put it in front of any model, see where the time goes, and have it fix what is slow.
    """
    if config is not None:
        context.with_resource(_file_for_all(config))


@contextlib.contextmanager
def _file_for_all(config: Path) -> Iterator[None]:
    """Let whoever loads settings while the command runs find the file, its child processes too."""
    from slipstream.config.load import FILE_VARIABLE

    before = os.environ.get(FILE_VARIABLE)
    os.environ[FILE_VARIABLE] = str(config.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[FILE_VARIABLE]
        else:
            os.environ[FILE_VARIABLE] = before


def load_settings(flags: Mapping[str, object] | None = None) -> "Settings":
    """The settings for the command that runs: file, environment, then `flags` by the setting's name."""
    return load_origins(flags).settings


def load_origins(flags: Mapping[str, object] | None = None) -> "Loaded":
    """Like `load_settings`, with where each value came from."""
    from slipstream.config.load import load_with_origins

    context = click.get_current_context(silent=True)
    path: Path | None = context.find_root().params.get("config") if context else None
    return load_with_origins(path=path, flags=flags)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 misused, 130 interrupted."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code. Every error of ours is rendered here, once."""
    try:
        outcome: object = slipstream.main(
            None if arguments is None else list(arguments), prog_name="slipstream", standalone_mode=False
        )
        sys.stdout.flush()
    except SlipstreamError as error:
        complain(error.message, hint=error.hint)
        return FAILED
    except click.UsageError as error:
        if isinstance(error, _HELP_ASKED):
            error.show()  # the help, whole and once, where a group of commands was named without one
            return MISUSED
        usage = error.ctx.get_usage() if error.ctx else ""
        complain(error.format_message(), hint=usage)
        return MISUSED
    except click.ClickException as error:
        complain(error.format_message())
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return FAILED
    return outcome if isinstance(outcome, int) else 0


def complain(message: str, *, hint: str = "") -> None:
    """Say on standard error what went wrong and what to do about it."""
    from slipstream.config.logs import escaped

    coloured = None if not os.environ.get("NO_COLOR") else False
    message, hint = ("\n".join(escaped(line) for line in text.splitlines()) for text in (message, hint))
    with contextlib.suppress(BrokenPipeError):
        click.echo(click.style("error: ", fg="red", bold=True) + message, err=True, color=coloured)
        if hint:
            click.echo(click.style(hint, dim=True), err=True, color=coloured)


def _forget_output() -> None:
    """Whoever read our output has left (`| head`): let the interpreter's last flush go nowhere, quietly."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
