"""`epp config`: is a configuration right, and what does it come to?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from epp.assemble import Assembly, assemble_text, bare_house
from epp.config.default import DEFAULT_ORIGIN
from epp.config.effective import as_yaml, effective
from epp.config.outside import with_outside
from epp.config.problems import written
from epp.config.watch import read_file
from epp.domain.response import ResponseMode
from epp.errors import ConfigError
from epp.plugins.catalog import CATALOGUE

F = TypeVar("F", bound=Callable[..., Any])

MODES = [mode.value for mode in ResponseMode]


@click.group("config")
def command() -> None:
    """Check and explain picker configurations."""


def _given(function: F) -> F:
    """What both commands take."""
    file = click.argument("file", required=False, type=click.Path(path_type=Path))
    plugins = click.option(
        "--plugin-file",
        "plugin_files",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Python file with plugin classes; may be repeated.",
    )
    return plugins(file(function))


@command.command("check")
@_given
@click.option(
    "--response",
    "mode",
    type=click.Choice(MODES),
    help="Warn of plugins that learn nothing in this response mode.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def check(file: Path | None, plugin_files: tuple[Path, ...], mode: str | None, form: str) -> None:
    """Check FILE, or the built-in default without one.

    Exits with 0 when it can be used, 1 when it has problems (all of them are printed), 2 when the
    file cannot be read or the command line is wrong.
    """
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    try:
        assembly = _assembly(file, plugin_files)
        warnings = assembly.policy.warnings + _blind(assembly, mode)
    except ConfigError as fault:
        problems = fault.problems
    if form == "json":
        told = {"ok": not problems, "problems": problems, "warnings": warnings}
        click.echo(json.dumps(told, indent=2))
    else:
        _print(file, problems, warnings)
    raise SystemExit(1 if problems else 0)


@command.command("explain")
@_given
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml")
def explain(file: Path | None, plugin_files: tuple[Path, ...], form: str) -> None:
    """Print what is in force under FILE (or the built-in default), and where each value came from.

    The output is a configuration that means the same.
    """
    try:
        shown = effective(_assembly(file, plugin_files).plan)
    except ConfigError as fault:
        _print(file, fault.problems, ())
        raise SystemExit(1) from None
    if form == "yaml":
        click.echo(as_yaml(shown), nl=False)
        return
    values = [
        {"path": written(path), "value": value, "source": s.kind, "line": s.line, "why": s.because}
        for path, value, s in shown.leaves()
    ]
    told = {"origin": _name(file), "configuration": shown.value, "values": values}
    click.echo(json.dumps(told | {"warnings": shown.plan.warnings}, indent=2))


def _assembly(file: Path | None, plugin_files: tuple[Path, ...]) -> Assembly:
    text = None if file is None else read_file(file)
    if isinstance(text, str):
        raise click.UsageError(text)
    catalogue = with_outside(CATALOGUE, plugin_files)
    return assemble_text(text, _name(file), catalogue, bare_house())


def _name(file: Path | None) -> str:
    return DEFAULT_ORIGIN if file is None else str(file)


def _blind(assembly: Assembly, mode: str | None) -> tuple[str, ...]:
    names = assembly.policy.blind[mode] if mode else ()
    return tuple(f"{name} learns nothing of responses in response mode {mode}" for name in names)


def _print(file: Path | None, problems: tuple[str, ...], warnings: tuple[str, ...]) -> None:
    for problem in problems:
        click.echo(f"error: {problem}", err=True)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if problems:
        click.echo(f"{_name(file)}: {len(problems)} problem(s)", err=True)
    else:
        click.echo(f"{_name(file)}: ok")
