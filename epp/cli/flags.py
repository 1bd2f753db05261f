"""The flags of `epp run`: those it honours, those it accepts and ignores, those it refuses.

Defaults are those of `RunOptions`. The names are the Go pickers', so that the arguments of their
deployments work; docs/migration.md lists them and a test holds it against this table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, cast

import click

from epp.cli.syntax import DURATION, NAMES, NUMBERS, QUANTITY, Converted
from epp.config.options import RunOptions
from epp.errors import ConfigError
from epp.wire.tuning import read_limits

DEFAULTS: Final = {field.name: field.default for field in fields(RunOptions)}


@dataclass(slots=True, frozen=True)
class Flag:
    """One flag; `fills` is the field of `RunOptions`, empty where it is the flag's own name."""

    name: str
    kind: click.ParamType[Any]
    meaning: str
    fills: str = ""
    many: bool = False
    env: str | None = None

    @property
    def field(self) -> str:
        return self.fills or self.name.replace("-", "_")


FLAGS: Final = (
    Flag("endpoints", click.STRING, "file of endpoints, watched for changes"),
    Flag("pool-name", click.STRING, "the InferencePool to serve"),
    Flag("pool-namespace", click.STRING, "the pool's namespace", env="NAMESPACE"),
    Flag("pool-group", click.STRING, "the pool's API group"),
    Flag("endpoint-selector", click.STRING, "labels of pods to serve without a pool: a=b,c=d"),
    Flag("endpoint-target-ports", NUMBERS, "ports of those pods, 1 to 8, parted by commas"),
    Flag("disable-endpoint-subset-filter", click.BOOL, "take no notice of the subset hint"),
    Flag("client-headers", NAMES, "which of a client's wishes are read, parted by commas"),
    Flag("ha-enable-leader-election", click.BOOL, "only one of several pickers is ready"),
    Flag("leader-elect-lease-duration", DURATION, "how long a leader's lease holds"),
    Flag("leader-elect-renew-deadline", DURATION, "by when a leader that cannot renew gives up"),
    Flag("leader-elect-retry-period", DURATION, "time between two looks at the lease"),
    Flag("leader-elect-resource-name", click.STRING, "name of the lease that pickers share"),
    Flag("leader-label", click.STRING, "label the leader puts on its pod, instead of readiness"),
    Flag("pod-name", click.STRING, "the name of the picker's own pod", env="POD_NAME"),
    Flag("config-file", click.STRING, "file with an EndpointPickerConfig, watched for changes"),
    Flag("config-text", click.STRING, "an EndpointPickerConfig"),
    Flag("plugin-file", click.STRING, "Python file with plugins; repeatable", "plugin_files", True),
    Flag("session-key-file", click.STRING, "file with the key that signs session tokens"),
    Flag("refresh-metrics-interval", DURATION, "shortest time between scrapes of an endpoint"),
    Flag("wire", click.Choice(["http2", "grpcio"]), "what serves the ext_proc port"),
    Flag("grpc-host", click.STRING, "address of the ext_proc and health ports; empty is all"),
    Flag("grpc-port", click.INT, "port of ext_proc; -1 for none beside --grpc-socket"),
    Flag("grpc-reuse-port", click.BOOL, "let other pickers listen on the same ext_proc port"),
    Flag("grpc-socket", click.STRING, "Unix socket that serves ext_proc too, without TLS"),
    Flag("grpc-health-port", click.INT, "port of the health service"),
    Flag("metrics-host", click.STRING, "address of /metrics; empty is all"),
    Flag("metrics-port", click.INT, "port of /metrics"),
    Flag("metrics-endpoint-auth", click.BOOL, "let only those read metrics whom the cluster lets"),
    Flag("metrics-cert-dir", click.STRING, "folder with tls.crt and tls.key for /metrics"),
    Flag("metrics-client-ca-file", click.STRING, "authorities of clients that may read metrics"),
    Flag("debug-host", click.STRING, "address of the debug pages"),
    Flag("debug-port", click.INT, "port of the debug pages; -1 for none"),
    Flag(
        "debug-allowed-host",
        click.STRING,
        "further host name the debug pages answer to; repeatable",
        "debug_allowed_hosts",
        True,
    ),
    Flag("secure-serving", click.BOOL, "TLS on the ext_proc port"),
    Flag("cert-path", click.STRING, "folder with tls.crt and tls.key; none: a self-signed one"),
    Flag("tls-min-version", click.STRING, "oldest TLS version taken, for example VersionTLS13"),
    Flag("tls-cipher-suites", NAMES, "cipher suites for TLS 1.2, parted by commas"),
    Flag("drain-timeout", DURATION, "how long streams may finish after SIGTERM"),
    Flag("max-body-bytes", QUANTITY, "largest request body"),
    Flag("max-held-bytes", QUANTITY, "largest sum of request bodies held at once"),
    Flag("max-header-bytes", QUANTITY, "largest header block of a request"),
    Flag("max-json-depth", click.INT, "deepest nesting of a JSON body"),
    Flag(
        "wire-limit",
        click.STRING,
        "limit of the ext_proc wire as name=value; repeatable",
        "wire_limits",
        True,
    ),
    Flag("max-loop-lag", DURATION, "event loop lag above which requests are refused; 0s: never"),
    Flag(
        "v", click.INT, "verbosity: 1 warnings, 2 refusals and changes, 4 everything", "verbosity"
    ),
    Flag("zap-encoder", click.Choice(["json", "console"]), "form of log lines", "log_encoder"),
    Flag("tracing", click.BOOL, "spans, where OTEL_TRACES_EXPORTER names an exporter"),
    Flag("emit-old-metrics", click.BOOL, "emit metrics under their older names too"),
    Flag("emit-endpoint-scores", click.BOOL, "put scores into the dynamic metadata"),
    Flag("response-headers", click.BOOL, "add x-epp-endpoint and x-epp-reason to responses"),
)

IGNORED: Final[Mapping[str, str]] = {
    "allow-experimental-plugins": "every plugin listed in the documentation may be used",
    "enable-cert-reload": "certificates are always loaded again when their files change",
    "enable-grpc-stream-metrics": "open streams are always counted",
    "enable-pprof": "there is no Go profile to serve; see /debug/tasks",
    "grpc-max-recv-msg-size": "use --max-body-bytes",
    "grpc-max-send-msg-size": "messages are cut as gateways want them",
    "health-checking": "health is always served on the ext_proc port too",
    "metrics-staleness-threshold": "gauges age by three missed scrapes of their endpoint",
    "refresh-prometheus-metrics-interval": "pool gauges are worked out at each scrape",
    "zap-devel": "use --zap-encoder=console and -v=4",
    "zap-stacktrace-level": "only a bug prints a stack",
    "zap-time-encoding": "times are UTC in ISO 8601",
}
"""Accepted without effect, each with what to know instead."""
IGNORED_BARE: Final = (
    "allow-experimental-plugins",
    "enable-cert-reload",
    "enable-grpc-stream-metrics",
    "enable-pprof",
    "health-checking",
    "zap-devel",
)

REFUSED: Final = (
    "total-queued-requests-metric",
    "total-running-requests-metric",
    "kv-cache-usage-percentage-metric",
    "lora-info-metric",
    "cache-info-metric",
)
"""The five flags that once named a model server's metrics."""

ZAP_LEVEL: Final = "zap-log-level"
LEVELS: Final[Mapping[str, int]] = {"debug": 4, "info": 2, "error": 1, "panic": 0}


def options_of_run() -> list[click.Parameter]:
    """Every flag as click knows it."""
    level = click.Option(
        [f"--{ZAP_LEVEL}"], help="log level: debug, info, error, panic or a verbosity; see -v"
    )
    return [*map(honoured, FLAGS), level, *map(accepted, IGNORED), *map(refused, REFUSED)]


def honoured(flag: Flag) -> click.Option:
    default = DEFAULTS[flag.field]
    names = [f"--{flag.name}", flag.field]
    return click.Option(
        ["-v", *names] if flag.name == "v" else names,
        type=flag.kind,
        multiple=flag.many,
        default=default,
        show_default=default not in ("", ()) and as_written(flag.kind, default),
        envvar=flag.env,
        help=flag.meaning,
    )


def as_written(kind: click.ParamType[Any], default: object) -> str | bool:
    """The default as a user writes it; True where click's own words are that."""
    return kind.written(default) if isinstance(kind, Converted) else True


def accepted(name: str) -> click.Option:
    kind = click.BOOL if name in IGNORED_BARE else click.STRING
    return click.Option([f"--{name}"], type=kind, help=f"ignored: {IGNORED[name]}", hidden=True)


def refused(name: str) -> click.Option:
    return click.Option([f"--{name}"], type=click.STRING, callback=refuse, hidden=True)


def refuse(ctx: click.Context, option: click.Parameter, value: object) -> None:
    """Point to where metric names are configured now."""
    if value is not None:
        raise click.UsageError(
            f"{option.opts[0]} is gone: name the metric in the configuration, in the parameters of"
            " core-metrics-extractor (plugins[].parameters.engineConfigs[]); see docs/migration.md",
            ctx,
        )


def run_options(values: Mapping[str, Any]) -> RunOptions:
    """Options from what click parsed. Raises ConfigError when they contradict each other."""
    filled = {flag.field: values[flag.field] for flag in FLAGS}
    filled["ignored"] = tuple(
        f"--{name}" for name in IGNORED if values[name.replace("-", "_")] is not None
    )
    level = values[ZAP_LEVEL.replace("-", "_")]
    if level is not None:
        filled["verbosity"] = verbosity_of(level)
    options = RunOptions(**filled)
    problems = [*problems_of(options.check), *problems_of(lambda: wire_limits(options))]
    if problems:
        raise ConfigError(problems)
    return options


def wire_limits(options: RunOptions) -> object:
    """The wire's limits as they will be. Raises ConfigError."""
    return read_limits(options.wire_limits, options.wire)


def problems_of(check: Callable[[], object]) -> tuple[str, ...]:
    """Everything that a check finds wrong."""
    try:
        check()
    except ConfigError as error:
        return error.problems
    return ()


def verbosity_of(level: str) -> int:
    """The verbosity of a zap level: its name, or a number. Raises a usage error."""
    if level.isascii() and level.isdigit() and len(level) < 4:
        return int(level)
    if level.lower() not in LEVELS:
        raise click.BadParameter(f"--{ZAP_LEVEL}: give {', '.join(LEVELS)} or a number")
    return LEVELS[level.lower()]


Source = Literal["honoured", "ignored", "refused"]


def every_flag() -> dict[str, Source]:
    """What becomes of each flag; docs/migration.md is held against it."""
    found: dict[str, Source] = {flag.name: "honoured" for flag in FLAGS}
    found[ZAP_LEVEL] = "honoured"
    found |= cast("dict[str, Source]", dict.fromkeys(IGNORED, "ignored"))
    found |= cast("dict[str, Source]", dict.fromkeys(REFUSED, "refused"))
    return found
