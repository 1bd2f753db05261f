"""The command line: one module per command, each imported only when it is the one that runs.

A module exports its click command as `command`. It may use everything below it; nothing may use it.
"""

import importlib
from collections.abc import Mapping
from typing import Final

import click

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "run": ("epp.cli.run", "Run the endpoint picker."),
    "demo": ("epp.cli.demo", "Envoy, picker and simulators on loopback, with traffic."),
    "config": ("epp.cli.config", "Check and explain picker configurations."),
    "envoy-config": ("epp.cli.envoy_config", "Print an Envoy configuration for the picker."),
    "lab": ("epp_lab.cli", "Replay traffic under routing policies, in virtual time."),
    "doctor": ("epp.cli.doctor", "Name what keeps exact cache knowledge from being exact."),
    "explain": ("epp.cli.explain", "Show why a request went where it went."),
}
"""Command to its module and its line of help, so that `epp --help` imports none of them."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # Click suggests from the commands it holds already: none of a lazy group.
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.exceptions.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup)
@click.version_option(package_name="epp", prog_name="epp")
def main() -> None:
    """An inference endpoint picker for the Kubernetes Gateway API."""
