"""What the debug pages make of what clients and configurations say."""

import time
from types import SimpleNamespace

from support.stores import Log, pod, store_of

from epp.app.live import LiveConfig
from epp.app.pages import Pages, open_of
from epp.config.options import RunOptions
from epp.domain.request import Head, Request
from epp.observe.decisions import DecisionLog
from epp.observe.picker_metrics import PickerMetrics

QUEUE = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{type: queue-scorer}]"


def test_the_page_of_the_configuration_shows_what_nobody_wrote():
    store, options = store_of(), RunOptions(config_text=QUEUE)
    live = LiveConfig(
        options, store, PickerMetrics(), Log(), clock=time.monotonic, secret=bytes(32)
    )
    pages = Pages(
        "pool",
        store=store,
        desk=SimpleNamespace(),
        flow=SimpleNamespace(),
        decisions=DecisionLog(),
        live=live,
        held=int,
        clock=time.monotonic,
    )

    told = pages.config().effective

    assert len(told["plugins"]) > 1
    assert told["schedulingProfiles"]
    assert told["requestHandler"]["parsers"]


def test_a_long_id_of_a_client_is_cut():
    head = Head({"x-request-id": "a" * 10_000})
    request = Request(head=head, model="m", id="1", target_model="m", body_size=1)
    ticket = SimpleNamespace(request=request, endpoint=pod(0), status=0, first_token_seen=False)

    assert open_of(ticket, 1.0).client_id == "a" * 256
