"""`epp doctor`: do predictions of cached tokens come true, and if not, what is broken?"""

import sys
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import click
import msgspec

from epp.admin.pages import KvEventsPage
from epp.cli.diagnosis import Finding, agreement, diagnose
from epp.observe.compared import Compared

TIMEOUT_SECONDS: Final = 5.0
LARGEST_PAGE: Final = 64 << 20


@click.command("doctor")
@click.option(
    "--debug-url",
    default="http://127.0.0.1:9091",
    show_default=True,
    help="Where the picker's debug pages are.",
)
@click.option("--requests", "shown", type=click.IntRange(0, 1000), default=10, show_default=True)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def command(debug_url: str, shown: int, form: str) -> None:
    """Compare predicted with reported cached tokens, and name what keeps them apart.

    Needs precise-prefix-cache-producer in the configuration, and a gateway that shows response
    bodies (full mode). Exit code 1 when something was found.
    """
    page = fetch(debug_url)
    findings = diagnose(page)
    if form == "json":
        found = {"agreement": agreement(page.compared), "findings": findings}
        click.echo(msgspec.json.encode(found))
    else:
        show(page, findings, shown)
    sys.exit(1 if findings else 0)


def fetch(debug_url: str) -> KvEventsPage:
    """The page. Raises click's error, exit code 1, when it cannot be had."""
    if urlsplit(debug_url).scheme not in ("http", "https"):
        raise click.UsageError("--debug-url must begin with http:// or https://")
    # No proxy: the debug pages answer this machine alone.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(f"{debug_url.rstrip('/')}/debug/kvevents", timeout=TIMEOUT_SECONDS) as it:
            text: bytes = it.read(LARGEST_PAGE)
        return msgspec.json.decode(text, type=KvEventsPage)
    except HTTPError as error:
        with error:
            raise click.ClickException(f"the debug page answered {error.code}") from error
    except (URLError, OSError) as error:
        raise click.ClickException(
            f'no debug pages at {debug_url} ({error}); give the "debug" port of the ready line'
        ) from error
    except msgspec.DecodeError as error:
        raise click.ClickException(f"not a page of followed caches: {error}") from error


def show(page: KvEventsPage, findings: list[Finding], shown: int) -> None:
    """Endpoints, the last requests, then what was found."""
    for row in page.endpoints:
        state = "live" if row.live else "linked" if row.linked else "not linked"
        click.echo(f"{row.endpoint}: {state}, {row.blocks} blocks of {row.block_tokens} tokens")
    for one in page.compared[len(page.compared) - shown :] if shown else ():
        click.echo(line(one))
    share = agreement(page.compared)
    if share is not None:
        click.echo(f"{share:.1%} of {len(page.compared)} requests came as predicted")
    for finding in findings:
        click.echo(f"\n{finding.condition}: {finding.where}\n  {finding.evidence}\n  {finding.fix}")
    if not findings:
        click.echo("nothing found: predictions come true")


def line(one: Compared) -> str:
    said = "not reported" if one.cached is None else f"{one.cached} reported"
    return (
        f"  {one.id[:12]} on {one.endpoint}: {one.predicted} predicted, {said},"
        f" of {one.reported_tokens or one.tokens} tokens by {one.tokens_by}"
    )
