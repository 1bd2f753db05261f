"""The flags of `epp run`: Go's syntax, and what becomes of each flag."""

import re
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.cli.flags import FLAGS, IGNORED, REFUSED, every_flag, options_of_run, run_options
from epp.cli.run import command
from epp.cli.syntax import GoCommand
from epp.config.options import RunOptions

MIGRATION = Path(__file__).parents[3] / "docs" / "migration.md"


def parsed(*args: str, environment: dict[str, str] | None = None) -> RunOptions:
    found = []
    probe = GoCommand(
        "run", params=options_of_run(), callback=lambda **values: found.append(run_options(values))
    )
    result = CliRunner().invoke(probe, list(args), env=environment or {}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return found[0]


def refused(*args: str) -> str:
    result = CliRunner().invoke(command, list(args))
    assert result.exit_code == 2, result.output
    return result.output


def test_no_flags_at_all_means_the_defaults():
    assert parsed() == RunOptions()


def test_help_shows_defaults_as_they_are_written():
    """A default that is copied from the help is taken, and is the one of the migration page."""
    options = {option.opts[0]: option for option in options_of_run()}
    shown = {name: one.show_default for name, one in options.items() if one.show_default}
    written = {name: default for name, default in shown.items() if isinstance(default, str)}

    assert written["--leader-elect-lease-duration"] == "15s"
    assert written["--max-body-bytes"] == "32Mi"
    assert parsed(*(f"{name}={default}" for name, default in written.items())) == RunOptions()


@pytest.mark.parametrize(
    "written",
    [
        ("-v", "4"),
        ("-v=4",),
        ("-v4",),
        ("--v", "4"),
        ("--v=4",),
        ("--zap-log-level", "debug"),
        ("--zap-log-level=4",),
    ],
    ids=" ".join,
)
def test_verbosity_in_every_spelling(written):
    assert parsed(*written).verbosity == 4


@pytest.mark.parametrize(
    "written",
    [
        ("--grpc-port", "9902"),
        ("--grpc-port=9902",),
        ("-grpc-port", "9902"),
        ("-grpc-port=9902",),
    ],
    ids=" ".join,
)
def test_a_long_flag_takes_one_dash_or_two(written):
    assert parsed(*written).grpc_port == 9902


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (("--tracing",), True),
        (("-tracing",), True),
        (("--tracing=true",), True),
        (("--tracing=false",), False),
        (("--tracing=1",), True),
        (("--tracing=F",), False),
    ],
    ids=str,
)
def test_a_boolean_may_stand_alone(written, value):
    assert parsed(*written).tracing is value


def test_a_boolean_does_not_take_the_next_argument():
    options = parsed("--secure-serving", "--grpc-port", "1")

    assert (options.secure_serving, options.grpc_port) == (True, 1)


def test_a_value_may_begin_with_a_dash():
    assert parsed("--debug-port", "-1").debug_port == -1


def test_the_last_of_a_repeated_flag_counts():
    assert parsed("--grpc-port=1", "--grpc-port=2").grpc_port == 2


def test_plugin_files_add_up():
    assert parsed("--plugin-file=a.py", "--plugin-file", "b.py").plugin_files == ("a.py", "b.py")


@pytest.mark.parametrize(
    ("written", "field", "value"),
    [
        ("--drain-timeout=1m30s", "drain_timeout", 90.0),
        ("--refresh-metrics-interval=200ms", "refresh_metrics_interval", 0.2),
        ("--max-body-bytes=4Mi", "max_body_bytes", 4 << 20),
        ("--max-body-bytes=4096", "max_body_bytes", 4096),
        ("--endpoint-target-ports=8000, 8001", "endpoint_target_ports", (8000, 8001)),
        ("--tls-cipher-suites=A,B", "tls_cipher_suites", ("A", "B")),
        ("--zap-encoder=console", "log_encoder", "console"),
        ("--wire=grpcio", "wire", "grpcio"),
    ],
)
def test_values_are_read_as_go_reads_them(written, field, value):
    assert getattr(parsed(written), field) == value


def test_the_arguments_of_the_go_deployment_work():
    options = parsed(
        *("--pool-name", "vllm", "--pool-namespace", "models", "--v", "4"),
        *("--zap-encoder", "json", "--grpc-port", "9002", "--grpc-health-port", "9003"),
        *("--config-file", "/config/default-plugins.yaml"),
    )

    assert (options.pool_name, options.pool_namespace, options.verbosity) == ("vllm", "models", 4)


def test_the_namespace_of_the_pod_is_the_default_of_the_pool():
    assert parsed(environment={"NAMESPACE": "models"}).pool_namespace == "models"


def test_a_flag_beats_the_environment():
    options = parsed("--pool-namespace=a", environment={"NAMESPACE": "b", "POD_NAME": "epp-0"})

    assert (options.pool_namespace, options.pod_name) == ("a", "epp-0")


@pytest.mark.parametrize("name", IGNORED)
def test_an_ignored_flag_is_remembered_for_the_log(name):
    assert parsed(f"--{name}=true").ignored == (f"--{name}",)


@pytest.mark.parametrize("name", REFUSED)
def test_a_flag_that_named_a_metric_points_to_the_configuration(name):
    assert "core-metrics-extractor" in refused(f"--{name}", "vllm:whatever")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--grpc-prot=1"], "--grpc-port"),
        (["-grpc-prot", "1"], "--grpc-port"),
        (["--secure-servin"], "--secure-serving"),
        (["--zzzzzz"], "--zzzzzz"),
        (["serve"], "serve"),
        (["--grpc-port"], "needs an argument"),
        (["--grpc-port=many"], "many"),
        (["--grpc-port=70000"], "70000"),
        (["--drain-timeout=5"], "duration"),
        (["--max-body-bytes=big"], "quantity"),
        (["--wire=tcp"], "http2"),
        (["--zap-log-level=loud"], "debug"),
        (["--endpoint-target-ports=a"], "8000,8001"),
        (["--pool-name=a", "--endpoint-selector=b=c", "--endpoint-target-ports=1"], "exclude"),
        (["--pool-name=a", "--endpoints=f"], "exclude"),
        (["--config-file=a", "--config-text=b"], "exclude"),
        (["--endpoint-selector=b=c"], "--endpoint-target-ports"),
        (["--endpoint-target-ports=1,2,3,4,5,6,7,8,9"], "at most 8"),
        (["--max-body-bytes=2Gi"], "--max-held-bytes"),
        (["--max-json-depth=0"], "--max-json-depth"),
        (["--wire-limit=max_ping=3"], "did you mean 'max_pings'?"),
        (["--wire-limit=max_pings=3", "--wire=grpcio"], "--wire grpcio has no such limit"),
        (["--grpc-port=-1"], "--grpc-port"),
        ([f"--grpc-socket=/{'x' * 107}"], "at most 107 bytes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_ends_with_2_and_says_what_to_do(args, says):
    assert says in refused(*args)


def test_what_is_wrong_is_said_all_at_once():
    said = refused("--wire-limit=max_pings=-1", "--wire-limit=nothing=1", "--max-json-depth=0")

    assert all(word in said for word in ("max_pings", "nothing", "--max-json-depth"))


def test_limits_of_the_wire_add_up():
    given = ("--wire-limit=max_pings=7", "--wire-limit", "idle_timeout=1m")

    assert parsed(*given).wire_limits == ("max_pings=7", "idle_timeout=1m")


def test_a_socket_makes_the_port_needless():
    options = parsed("--grpc-socket=/run/epp.sock", "--grpc-port", "-1")

    assert (options.grpc_socket, options.grpc_port) == ("/run/epp.sock", -1)


@pytest.mark.parametrize("word", ["-h", "--help", "-help"])
def test_help_lists_every_honoured_flag(word):
    result = CliRunner().invoke(command, [word])

    assert result.exit_code == 0
    assert [flag.name for flag in FLAGS if f"-{flag.name}" not in result.output] == []


def test_every_option_can_be_set_by_a_flag():
    settable = {flag.field for flag in FLAGS} | {"ignored"}

    assert settable == {field.name for field in fields(RunOptions)}


def test_the_migration_page_says_what_becomes_of_each_flag():
    rows = re.findall(r"^\| `--?([a-z0-9-]+)` \| (\w+) \|", MIGRATION.read_text(), re.MULTILINE)

    assert dict(rows) == every_flag()


@settings(max_examples=150)
@given(st.lists(st.text(max_size=20), max_size=4))
def test_no_arguments_make_it_break(args):
    probe = GoCommand("run", params=options_of_run(), callback=lambda **values: None)
    try:
        probe.main(args, standalone_mode=False)
    except click.ClickException:
        return
