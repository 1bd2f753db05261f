"""`epp explain`: why a request went where it went, asked of a running picker's debug pages."""

from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, build_opener

import click
import msgspec

from epp.admin.pages import DecisionsPage, Problem
from epp.observe.decisions import DecisionRecord, ProfileRecord

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

TIMEOUT_SECONDS: Final = 5.0
LARGEST_PAGE: Final = 64 << 20


@click.command("explain")
@click.argument("request_id", required=False)
@click.option("--last", type=click.IntRange(1, 1000), help="Explain the newest N decisions.")
@click.option(
    "--debug-url",
    default="http://127.0.0.1:9091",
    show_default=True,
    help="Where the picker's debug pages are.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def command(request_id: str | None, last: int | None, debug_url: str, form: str) -> None:
    """Show the decision on REQUEST_ID: candidates, filters, scores, the pick and its reason.

    REQUEST_ID is the picker's own id or the x-request-id of the client.
    """
    if (request_id is None) == (last is None):
        raise click.UsageError("give a REQUEST_ID, or --last N, and not both")
    query = {"id": request_id} if request_id is not None else {"last": str(last)}
    text = fetch(debug_url, query)
    if form == "json":
        click.echo(text)
        return
    show(decoded(text).decisions)


def fetch(debug_url: str, query: dict[str, str]) -> bytes:
    """The decisions page. Raises click's error, exit code 1, when it cannot be had."""
    if urlsplit(debug_url).scheme not in ("http", "https"):
        raise click.UsageError("--debug-url must begin with http:// or https://")
    url = f"{debug_url.rstrip('/')}/debug/decisions?{urlencode(query)}"
    # No proxy: the debug pages answer this machine alone.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
            page: bytes = answer.read(LARGEST_PAGE)
    except HTTPError as error:
        with error:
            raise click.ClickException(complaint(error.read(LARGEST_PAGE), error.code)) from error
    except (URLError, OSError) as error:
        raise click.ClickException(
            f"no debug pages at {debug_url} ({error}); is the picker running, and is this its"
            ' "debug" port of the ready line?'
        ) from error
    return page


def complaint(body: bytes, status: int) -> str:
    """What the page said was wrong."""
    try:
        return msgspec.json.decode(body, type=Problem).error
    except msgspec.DecodeError:
        return f"the debug page answered {status}"


def decoded(text: bytes) -> DecisionsPage:
    try:
        return msgspec.json.decode(text, type=DecisionsPage)
    except msgspec.DecodeError as error:
        raise click.ClickException(f"not a page of decisions: {error}") from error


def show(records: tuple[DecisionRecord, ...]) -> None:
    """Records as tables."""
    from rich.console import Console

    console = Console()
    for record in records:
        console.print(headline(record), markup=False, highlight=False, soft_wrap=True)
        for part in tables(record):
            console.print(part)


def headline(record: DecisionRecord) -> str:
    """What one record says, in a few lines."""
    where = f"refused with {record.status}: {record.refusal}"
    if not record.refusal:
        where = f"to {record.destination}"
    lines = [
        f"request {record.id}" + (f" ({record.client_id})" if record.client_id else ""),
        f"  {record.kind} {record.model}, priority {record.priority},"
        f" about {record.prompt_tokens} prompt tokens",
        f"  {where}, in {record.seconds * 1000:.2f} ms",
    ]
    if record.reason:
        lines.append(f"  because: {record.reason}")
    if record.ending:
        lines.append(f"  ended: {record.ending}, status {record.status}")
    return "\n".join(lines)


def tables(record: DecisionRecord) -> "list[RenderableType]":
    """For each profile a table of scores and a line for each filter that removed something."""
    shown: list[RenderableType] = []
    for profile in record.profiles:
        shown.append(score_table(profile))
        shown.extend(
            f"  {word.name} removed {', '.join(word.removed)}"
            for word in profile.filters
            if word.removed
        )
    return shown


def score_table(profile: ProfileRecord) -> "Table":
    """Candidates by row, best first; scorers by column; the pick is marked."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"profile {profile.profile}", title_justify="left")
    table.add_column("endpoint")
    for scorer in profile.scorers:
        table.add_column(f"{scorer.name} x{scorer.weight:g}", justify="right")
    table.add_column("total", justify="right")
    names = profile.candidates or profile.picked
    for name in sorted(names, key=lambda name: -profile.totals.get(name, 0.0)):
        scores = [number(scorer.scores.get(name)) for scorer in profile.scorers]
        mark = "-> " if name in profile.picked else "   "
        table.add_row(Text(mark + name), *scores, number(profile.totals.get(name)))
    return table


def number(value: float | None) -> str:
    """Three decimals, or a dash for no opinion."""
    return "-" if value is None else f"{value:.3f}"
