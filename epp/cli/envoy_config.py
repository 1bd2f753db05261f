"""`epp envoy-config`: an Envoy configuration for one way of speaking with the picker."""

from pathlib import Path
from typing import Any, Final

import click
import yaml

from epp.cli.envoy_clusters import picker_cluster, pool_cluster
from epp.cli.envoy_filters import listener
from epp.cli.envoy_template import UNIX, Address, Gateway, Tree, socket_address
from epp.domain.endpoint import split_address
from epp.errors import ConfigError

LISTEN_PORT: Final = 8081
ADMIN_PORT: Final = 19000
DEFAULTS: Final = Gateway()


class HostAndPort(click.ParamType[Address]):
    """`host:port`, with an IPv6 host in brackets."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            host, port = split_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if port is None:
            self.fail(f"{value!r} has no port", param, ctx)
        return host, port


class PickerAddress(HostAndPort):
    """`host:port`, or `unix:PATH` for a picker on the same machine."""

    name = "HOST:PORT|unix:PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value.startswith(f"{UNIX}/"):
            return value, 0
        return super().convert(value, param, ctx)


HOST_AND_PORT: Final = HostAndPort()


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice out twice: anchors are for machines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def config(gateway: Gateway) -> Tree:
    """Envoy's whole configuration, as plain values."""
    return {
        "admin": {"address": socket_address(gateway.admin)},
        "static_resources": {
            "listeners": [listener(gateway)],
            "clusters": [pool_cluster(gateway), picker_cluster(gateway)],
        },
    }


def config_yaml(gateway: Gateway) -> str:
    """The configuration as Envoy reads it from a file."""
    failing = "open" if gateway.fail_open else "closed"
    title = (
        f"# Envoy in front of the picker: request {gateway.request}, response {gateway.response},"
        f"\n# {gateway.balancing}, failing {failing}. Printed by `epp envoy-config`.\n"
    )
    return title + yaml.dump(config(gateway), Dumper=_Plain, sort_keys=False)


@click.command("envoy-config")
@click.option(
    "--request",
    type=click.Choice(["buffered", "duplex"]),
    default="buffered",
    show_default=True,
    help="How request bodies reach the picker.",
)
@click.option(
    "--response",
    type=click.Choice(["full", "watch", "forget"]),
    default="watch",
    show_default=True,
    help="What the picker sees of responses: all, only the end, only the headers.",
)
@click.option(
    "--lb",
    type=click.Choice(["override-host", "original-dst"]),
    default="override-host",
    show_default=True,
    help="How the picker's choice is followed.",
)
@click.option("--listen-host", default="0.0.0.0", show_default=True, help="Address to serve on.")
@click.option("--listen-port", default=LISTEN_PORT, show_default=True, help="Port to serve on.")
@click.option("--admin-port", default=ADMIN_PORT, show_default=True, help="Port of Envoy's admin.")
@click.option(
    "--ext-proc",
    type=PickerAddress(),
    multiple=True,
    default=["127.0.0.1:9002"],
    show_default=True,
    help="A picker; repeatable.",
)
@click.option(
    "--ext-proc-tls/--no-ext-proc-tls",
    default=True,
    show_default=True,
    help="TLS to the pickers; never on a Unix socket.",
)
@click.option(
    "--endpoints",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of the pool's endpoints, as `epp run` reads it.",
)
@click.option("--service", type=HOST_AND_PORT, help="Headless service of the pool.")
@click.option(
    "--fail-open/--fail-closed",
    default=None,
    help="Without a picker: take any endpoint, or answer 503. [open with override-host]",
)
@click.option(
    "--trust-client-headers/--strip-client-headers",
    default=False,
    show_default=True,
    help="Let clients name objective, fairness id, target model, latency goals, time in the"
    " queue and workload.",
)
@click.option(
    "--max-body-bytes",
    type=click.IntRange(1, 2**31 - 1),
    default=DEFAULTS.body_bytes,
    show_default=True,
    help="Largest body held; 413 above, in buffered mode.",
)
@click.option(
    "--message-timeout",
    type=click.FloatRange(0.1, 86_400),
    default=DEFAULTS.message_timeout,
    show_default=True,
    help="Seconds to wait for the picker, its queue included.",
)
def command(
    *,
    lb: Any,
    endpoints: Path | None,
    service: Address | None,
    fail_open: bool | None,
    **given: Any,
) -> None:
    """Print an Envoy configuration.

    The default serves through a picker that dies: bodies are buffered, responses watched, the
    picker's choice is read from metadata, and any endpoint is taken when there is none.
    """
    if lb == "override-host" and (endpoints is None) == (service is None):
        raise click.UsageError("--lb=override-host needs --endpoints or --service, and not both")
    if lb == "original-dst" and (endpoints or service):
        raise click.UsageError("--lb=original-dst goes where the picker says; leave the pool out")
    if len({host.startswith(UNIX) for host, _ in given["ext_proc"]}) > 1:
        raise click.UsageError("--ext-proc: give Unix sockets or ports, not both")
    gateway = Gateway(
        request=given["request"],
        response=given["response"],
        balancing=lb,
        pickers=tuple(given["ext_proc"]),
        picker_tls=given["ext_proc_tls"],
        endpoints=addresses(endpoints) if endpoints else (),
        service=service,
        fail_open=lb == "override-host" if fail_open is None else fail_open,
        trust_client_headers=given["trust_client_headers"],
        listen=(given["listen_host"], given["listen_port"]),
        admin=("127.0.0.1", given["admin_port"]),
        body_bytes=given["max_body_bytes"],
        message_timeout=given["message_timeout"],
    )
    click.echo(config_yaml(gateway), nl=False)


def addresses(path: Path) -> tuple[Address, ...]:
    """The addresses a file of endpoints lists. Ends with exit code 2 when it is broken."""
    from epp.discovery import parse_endpoints

    try:
        found = parse_endpoints(path.read_bytes(), str(path))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    if not found:
        raise click.UsageError(f"{path}: lists no endpoints; Envoy needs at least one")
    return tuple((endpoint.host, endpoint.port) for endpoint in found)
