"""Go's flag syntax over click: one or two dashes, `--flag value`, `--flag=value`, bare booleans,
several values after a flag that takes a list."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from vllm_sim.durations import seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable

TRUE = ("1", "t", "T", "true", "TRUE", "True")
FALSE = ("0", "f", "F", "false", "FALSE", "False")


class Duration(click.ParamType[float]):
    """A Go duration such as `100ms` or `1m30s`; a bare number is milliseconds. In seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text) / 1000
        try:
            return seconds_of(text)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class GoBool(click.ParamType[bool]):
    """What Go's flag package takes for a boolean."""

    name = "bool"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        if isinstance(value, bool):
            return value
        if value in TRUE:
            return True
        if value not in FALSE:
            self.fail(f"{value!r} is no boolean; write true or false", param, ctx)
        return False


class GoCommand(click.Command):
    """A command that reads its arguments as Go's flag and pflag packages do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        booleans = {
            opt for param in self.params if isinstance(param.type, GoBool) for opt in param.opts
        }
        lists = {
            opt
            for param in self.params
            if isinstance(param, click.Option) and param.multiple
            for opt in param.opts
        }
        return super().parse_args(ctx, list(_repeated(_normalised(args, booleans), lists)))


def _denied(arg: str, booleans: set[str]) -> str:
    """`--no-flag`, as Python's argparse writes it, as `--flag=false`."""
    wanted = "--" + arg.removeprefix("--no-")
    return f"{wanted}=false" if arg.startswith("--no-") and wanted in booleans else arg


def _repeated(args: Iterable[str], lists: set[str]) -> Iterable[str]:
    """`--list a b` as `--list a --list b`; the list ends at the next flag."""
    flag, values = "", 0
    for arg in args:
        if arg.startswith("-"):
            flag, values = arg, 0
        else:
            values += 1
        if flag in lists and values > 1:
            yield flag
        yield arg


def _normalised(args: list[str], booleans: set[str]) -> Iterable[str]:
    rest = iter(enumerate(args))
    for at, arg in rest:
        if re.match(r"-[a-zA-Z][\w-]+", arg):
            arg = "-" + arg
        arg = _denied(arg, booleans)
        if arg not in booleans:
            yield arg
            continue
        following = args[at + 1] if at + 1 < len(args) else ""
        if following in TRUE or following in FALSE:
            next(rest)
            yield f"{arg}={following}"
        else:
            yield f"{arg}=true"
