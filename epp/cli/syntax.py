"""Go's flag syntax for click: one dash or two, `=` or a space, bare booleans.

Arguments are put into the one form click reads, `--name=value`, by what is known of each option.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import click

from epp.config.units import format_duration, format_quantity, parse_duration, parse_quantity

ATTACHED: Final = re.compile(r"-v(\d+)")
"""`-v4`: a short flag with its value attached."""


class GoCommand(click.Command):
    """A command whose options are written as Go programs write them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = {
            name.lstrip("-"): option
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)
            for name in option.opts
        }
        return super().parse_args(ctx, list(in_one_form(args, options, ctx)))


def in_one_form(
    args: Sequence[str], options: dict[str, click.Option], ctx: click.Context
) -> Iterator[str]:
    """`args` as `--name=value`. Raises click's usage errors, which end with exit code 2."""
    words = iter(args)
    for word in words:
        if word == "--" or not word.startswith("-") or word == "-":
            raise click.UsageError(f"unexpected argument {word!r}: only flags are taken", ctx)
        word = ATTACHED.sub(r"-v=\1", word) if ATTACHED.fullmatch(word) else word
        name, equals, value = word.lstrip("-").partition("=")
        option = options.get("help" if name == "h" else name)
        if option is None:
            raise click.NoSuchOption(f"--{name}", possibilities=nearest(name, options), ctx=ctx)
        if option.is_flag:
            yield option.opts[0]
        elif equals:
            yield f"--{name}={value}"
        elif option.type is click.BOOL:
            yield f"--{name}=true"
        else:
            yield f"--{name}={following(words, name, option, ctx)}"


def following(words: Iterator[str], name: str, option: click.Option, ctx: click.Context) -> str:
    """The next argument, as the value of `name`, whatever it looks like."""
    value = next(words, None)
    if value is None:
        raise click.BadOptionUsage(name, f"flag --{name} needs an argument", ctx)
    return value


def nearest(name: str, options: dict[str, click.Option]) -> list[str] | None:
    """The name that looks most like `name`, as click suggests it; None if none does."""
    import difflib

    shown = [known for known, option in options.items() if not option.hidden]
    close = difflib.get_close_matches(name[:100], shown, n=1, cutoff=0.6)
    return [f"--{match}" for match in close] or None


class Converted(click.ParamType[Any]):
    """A value read by one of the configuration's own functions; `written` is the way back."""

    def __init__(
        self, name: str, convert: Callable[[str], Any], written: Callable[[Any], str]
    ) -> None:
        self.name = name
        self.written = written
        self._convert = convert

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._convert(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers parted by commas. Raises ValueError."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise ValueError(f"{text[:40]!r} is no list of numbers; write for example 8000,8001")
    return tuple(map(int, words))


def names(text: str) -> tuple[str, ...]:
    """Words parted by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def listed(values: Sequence[object]) -> str:
    """Numbers or words as `numbers` and `names` read them."""
    return ",".join(map(str, values))


DURATION: Final = Converted("duration", parse_duration, format_duration)
QUANTITY: Final = Converted("quantity", parse_quantity, format_quantity)
NUMBERS: Final = Converted("numbers", numbers, listed)
NAMES: Final = Converted("names", names, listed)
