"""Every configuration `epp envoy-config` prints is one a real Envoy takes and serves with."""

import itertools

import pytest
import yaml
from click.testing import CliRunner
from support.envoy import EnvoyFailed, envoy, on_free_ports, validate

from epp.cli.envoy_config import command, config_yaml
from epp.cli.envoy_template import Gateway
from epp.domain.headers import CONTROL_HEADERS, DESTINATION, OBJECTIVE, REQUEST_TTL_MS, WORKLOAD

pytestmark = pytest.mark.envoy

ENDPOINTS = (("127.0.0.1", 8000), ("::1", 8001))
VARIANTS = list(
    itertools.product(
        ("buffered", "duplex"),
        ("full", "watch", "forget"),
        ("override-host", "original-dst"),
        (True, False),
    )
)


def gateway(request="buffered", response="watch", balancing="override-host", fail_open=True):
    return Gateway(
        request=request,
        response=response,
        balancing=balancing,
        fail_open=fail_open,
        endpoints=ENDPOINTS if balancing == "override-host" else (),
        listen=("127.0.0.1", 0),
        admin=("127.0.0.1", 0),
    )


@pytest.fixture
def endpoints_file(tmp_path):
    path = tmp_path / "endpoints.yaml"
    listed = [{"name": f"e{port}", "address": host, "port": str(port)} for host, port in ENDPOINTS]
    path.write_text(yaml.safe_dump({"endpoints": listed}))
    return path


def printed(*args: str) -> dict:
    result = CliRunner().invoke(command, args)
    assert result.exit_code == 0, result.output
    return yaml.safe_load(result.output)


def filter_config(tree: dict, name: str) -> dict:
    chain = tree["static_resources"]["listeners"][0]["filter_chains"][0]
    filters = chain["filters"][0]["typed_config"]["http_filters"]
    return next(each["typed_config"] for each in filters if each["name"].endswith(name))


@pytest.mark.parametrize(
    "variant", VARIANTS, ids=lambda v: "-".join([*v[:3], "open" if v[3] else "closed"])
)
async def test_envoy_takes_every_variant_and_starts(variant):
    async with envoy(config_yaml(gateway(*variant))) as running:
        stats = await running.stats("^server.(live|state)$")

    assert stats["server.live"] == 1


async def test_envoy_takes_a_headless_service():
    config = Gateway(service=("localhost", 8000), pickers=(("localhost", 9002),))

    assert "OK" in await validate(config_yaml(config))


async def test_what_envoy_refuses_fails_with_its_words():
    broken = config_yaml(gateway()).replace("BUFFERED", "BUFFET")

    with pytest.raises(EnvoyFailed, match="BUFFET"):
        await validate(broken)


async def test_a_configuration_that_cannot_run_fails_with_the_log():
    broken = config_yaml(gateway()).replace("cluster: pool", "cluster: none")

    with pytest.raises(EnvoyFailed, match="none"):
        async with envoy(broken):
            pass


async def test_several_envoys_run_side_by_side():
    async with envoy(config_yaml(gateway())) as one, envoy(config_yaml(gateway())) as other:
        assert one.address != other.address


def test_the_default_is_the_one_that_outlives_a_picker(endpoints_file):
    tree = printed("--endpoints", str(endpoints_file))

    picker = filter_config(tree, "ext_proc")
    assert picker["failure_mode_allow"] is True
    assert picker["processing_mode"]["request_body_mode"] == "BUFFERED"
    assert picker["processing_mode"]["response_body_mode"] == "NONE"
    assert picker["processing_mode"]["response_trailer_mode"] == "SEND"
    pool = tree["static_resources"]["clusters"][0]
    assert "override_host" in str(pool["load_balancing_policy"])


def test_original_dst_fails_closed_unless_told():
    assert filter_config(printed("--lb=original-dst"), "ext_proc")["failure_mode_allow"] is False


def route(tree: dict) -> dict:
    chain = tree["static_resources"]["listeners"][0]["filter_chains"][0]
    routes = chain["filters"][0]["typed_config"]["route_config"]
    return routes["virtual_hosts"][0]["routes"][0]["route"]


@pytest.mark.parametrize(("request_", "retried"), [("buffered", True), ("duplex", False)])
def test_retries_are_for_buffered_bodies_alone(request_, retried):
    assert ("retry_policy" in route(printed("--lb=original-dst", f"--request={request_}"))) is (
        retried
    )


def removed(tree: dict) -> set[str]:
    mutations = filter_config(tree, "header_mutation")["mutations"]["request_mutations"]
    return {each["remove"] for each in mutations}


def test_clients_may_not_steer():
    stripped = removed(printed("--lb=original-dst"))

    assert stripped == {*CONTROL_HEADERS, DESTINATION}
    assert stripped >= {*WORKLOAD, *REQUEST_TTL_MS}


def test_trusted_clients_may_wish_but_not_steer():
    stripped = removed(printed("--lb=original-dst", "--trust-client-headers"))

    assert DESTINATION in stripped
    assert "x-prefiller-host-port" in stripped
    assert not stripped & {*OBJECTIVE, *WORKLOAD}


def test_several_pickers_are_all_asked_for_health():
    tree = printed("--lb=original-dst", "--ext-proc=10.0.0.1:9002", "--ext-proc=[::1]:9002")

    picker = tree["static_resources"]["clusters"][1]
    assert len(picker["load_assignment"]["endpoints"][0]["lb_endpoints"]) == 2
    assert picker["health_checks"][0]["grpc_health_check"]["service_name"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "needs --endpoints or --service"),
        (["--service=pool"], "no port"),
        (["--service=pool:0"], "port must be"),
        (["--lb=original-dst", "--service=pool:1"], "leave the pool out"),
        (["--endpoints=/dev/null/none"], "--endpoints"),
    ],
)
def test_wrong_usage_is_explained(args, says):
    result = CliRunner().invoke(command, args)

    assert result.exit_code == 2
    assert says in result.output


def test_a_file_without_endpoints_is_refused(tmp_path):
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints: []\n")

    result = CliRunner().invoke(command, [f"--endpoints={path}"])

    assert result.exit_code == 2


def test_tests_serve_on_the_loopback_only():
    tree = yaml.safe_load(on_free_ports(config_yaml(Gateway(service=("pool", 1)))))

    listener = tree["static_resources"]["listeners"][0]
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 0}
