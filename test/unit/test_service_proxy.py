"""Where a Service leads in the clusters of the tests: as kube-proxy has it."""

import pytest
from support.service_proxy import targets

READY = {"ready": True, "serving": True, "terminating": False}
STARTING = {"ready": False, "serving": False, "terminating": False}
LEAVING = {"ready": False, "serving": True, "terminating": True}
DYING = {"ready": False, "serving": False, "terminating": True}


def endpoints(*conditions):
    return [
        {
            "ports": [{"name": "grpc", "port": 9002}],
            "endpoints": [
                {"addresses": [f"10.0.0.{number}"], "conditions": each}
                for number, each in enumerate(conditions)
            ],
        }
    ]


@pytest.mark.parametrize(
    ("conditions", "chosen"),
    [
        pytest.param([READY, STARTING, READY], [0, 2], id="those that are ready"),
        pytest.param([LEAVING, READY], [1], id="not those that leave while another is ready"),
        pytest.param([LEAVING, STARTING], [0], id="those that leave while nobody is ready"),
        pytest.param([DYING, STARTING], [], id="nobody whose probes fail"),
    ],
)
def test_who_gets_a_connection(conditions, chosen):
    found = targets(endpoints(*conditions), "grpc")

    assert found == [(f"10.0.0.{number}", 9002) for number in chosen]


def test_a_port_is_found_by_its_name():
    assert targets(endpoints(READY), "http") == []
