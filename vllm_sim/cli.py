"""`vllm-sim`: the command over the tables of `switches.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vllm_sim.config_file import read_config
from vllm_sim.flags import GoCommand
from vllm_sim.given import options_from
from vllm_sim.switches import BARE, BOOL, ENVIRONMENT, IGNORED, LISTS, REFUSED, REFUSED_BARE, TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = {"help_option_names": ["--help", "-h"]}


def _flags(command: Callable[..., None]) -> Callable[..., None]:
    for name, text in reversed(LISTS.items()):
        command = click.option(f"--{name}", multiple=True, help=text)(command)
    for name, kind, default, text in reversed(TABLES):
        variable = ENVIRONMENT.get(name)
        option = click.option(f"--{name}", type=kind, default=default, help=text, envvar=variable)
        command = option(command)
    return command


def _silent(command: Callable[..., None]) -> Callable[..., None]:
    """The flags that are taken and dropped, and those that are refused with a reason."""
    for name in (*IGNORED, *BARE):
        kind = BOOL if name in BARE else str
        command = click.option(f"--{name}", type=kind, hidden=True, expose_value=False)(command)
    for name in REFUSED:
        kind = BOOL if name in REFUSED_BARE else str
        option = click.option(
            f"--{name}", type=kind, hidden=True, expose_value=False, callback=_refuse
        )
        command = option(command)
    verbosity = click.option("--v", "-v", hidden=True, expose_value=False)
    return verbosity(command)


def _refuse(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value:
        name = str(param.name).replace("_", "-")
        raise click.UsageError(f"--{name}: {REFUSED[name]}", ctx)


def _configure(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    """What the file says becomes the default of every flag it names."""
    if not path:
        return
    try:
        known = {str(one.name) for one in ctx.command.params} - {param.name}
        ctx.default_map = read_config(path, known)
    except ValueError as error:
        raise click.UsageError(f"--config: {error}", ctx) from error


@click.command(cls=GoCommand, context_settings=SETTINGS)
@click.option(
    "--config",
    is_eager=True,
    expose_value=False,
    callback=_configure,
    help="YAML file of these flags without dashes; flags win over it",
)
@_flags
@_silent
def main(**given: Any) -> None:
    """A vLLM server without a GPU.

    Constant latencies when one of the latency flags is given, the engine model otherwise. Prints
    one JSON line when it is ready: {"ready": true, "port": N}.
    """
    try:
        options = options_from(given)
        options.engine_config()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    from vllm_sim.kvevents.publisher import EndpointError
    from vllm_sim.serve import serve
    from vllm_sim.server.tls import CertificateError

    try:
        serve(options)
    except (EndpointError, CertificateError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {options.host}:{options.port}: {error}"
        ) from error
