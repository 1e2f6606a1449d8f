"""A group of commands of which `run` may be left out."""

import click


class Group(click.Group):
    """`slipstream load URL` is `slipstream load run URL`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` where no command is named."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)
