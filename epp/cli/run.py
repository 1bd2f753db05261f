"""`epp run`: the picker itself."""

import gc
import sys
from typing import Any

import click

from epp.cli.flags import options_of_run, run_options
from epp.cli.syntax import GoCommand
from epp.errors import ConfigError, EppError


def run(**values: Any) -> None:
    """Serve ext_proc, health, metrics and debug pages until SIGTERM.

    Prints one line of JSON when ready: {"ready": true, "grpc": PORT, ...}.
    """
    try:
        options = run_options(values)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    # Looking for cycles among modules that all stay costs 7 % of a start; the process goes on with
    # it once it is up.
    gc.disable()
    # Only now: a wrong flag or --help is answered without loading the picker.
    import epp.app.process

    try:
        sys.exit(epp.app.process.run(options))
    except (EppError, OSError) as error:
        raise click.ClickException(str(error)) from error


command = GoCommand("run", params=options_of_run(), callback=run, help=run.__doc__)
