"""Filters of labels, roles and test headers."""

import pytest
from pydantic import ValidationError
from support.pools import endpoint, pool, request

from epp.plugins.filters.header_based_testing import HeaderBasedTestingFilter
from epp.plugins.filters.label_selector import ByLabelFilter, LabelSelectorFilter
from epp.plugins.filters.roles import DecodeFilter, EncodeFilter, PrefillFilter

ROLES = [
    None,
    "decode",
    "prefill",
    "encode",
    "both",
    "prefill-decode",
    "encode-prefill",
    "encode-prefill-decode",
    "elsewhere",
]


def with_labels(*labels):
    return pool(endpoints=[endpoint(n, labels=each) for n, each in enumerate(labels)])


def made(plugin, **params):
    return plugin(plugin.Params.model_validate(params))


@pytest.mark.parametrize(
    ("plugin", "kept"),
    [
        pytest.param(
            DecodeFilter,
            [None, "decode", "both", "prefill-decode", "encode-prefill-decode"],
            id="decode",
        ),
        pytest.param(
            PrefillFilter,
            ["prefill", "both", "prefill-decode", "encode-prefill", "encode-prefill-decode"],
            id="prefill",
        ),
        pytest.param(
            EncodeFilter, ["encode", "encode-prefill", "encode-prefill-decode"], id="encode"
        ),
    ],
)
def test_roles(plugin, kept):
    view = with_labels(*({"llm-d.ai/role": role} if role else {} for role in ROLES))

    assert [r for r, keep in zip(ROLES, plugin().filter(request(), view), strict=True) if keep] == (
        kept
    )


LABELS = [{"gpu": "h100", "tier": "spot"}, {"gpu": "h100"}, {"gpu": "l4"}, {}]


@pytest.mark.parametrize(
    ("selector", "kept"),
    [
        pytest.param({}, [0, 1, 2, 3], id="empty-keeps-all"),
        pytest.param({"matchLabels": {"gpu": "h100"}}, [0, 1], id="label"),
        pytest.param({"matchLabels": {"gpu": "h100", "tier": "spot"}}, [0], id="two-labels"),
        pytest.param(
            {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["l4", "h100"]}]},
            [0, 1, 2],
            id="in",
        ),
        pytest.param(
            {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["spot"]}]},
            [1, 2, 3],
            id="not-in-keeps-the-absent",
        ),
        pytest.param(
            {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, [0], id="exists"
        ),
        pytest.param(
            {"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}, [3], id="not-exists"
        ),
    ],
)
def test_label_selector(selector, kept):
    mask = made(LabelSelectorFilter, **selector).filter(request(), with_labels(*LABELS))

    assert mask.nonzero()[0].tolist() == kept


@pytest.mark.parametrize(
    ("plugin", "params", "fix"),
    [
        (LabelSelectorFilter, {"matchExpressions": [{"key": "a", "operator": "In"}]}, "values"),
        (
            LabelSelectorFilter,
            {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
            "remove",
        ),
        (ByLabelFilter, {"label": "a"}, "validValues"),
    ],
)
def test_a_selector_that_cannot_be_meant_is_refused_with_the_fix(plugin, params, fix):
    with pytest.raises(ValidationError, match=fix):
        made(plugin, **params)


@pytest.mark.parametrize(
    ("allows_none", "kept"),
    [pytest.param(True, [2, 3], id="yes"), pytest.param(False, [2], id="no")],
)
def test_by_label(allows_none, kept):
    plugin = made(ByLabelFilter, label="gpu", validValues=["l4"], allowsNoLabel=allows_none)

    assert plugin.filter(request(), with_labels(*LABELS)).nonzero()[0].tolist() == kept


def test_a_changed_pool_is_judged_anew():
    plugin = DecodeFilter()
    plugin.filter(request(), with_labels({}, {}))

    mask = plugin.filter(request(), with_labels({"llm-d.ai/role": "prefill"}, {}))

    assert mask.tolist() == [False, True]


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        pytest.param(None, [], id="absent"),
        pytest.param("", [], id="empty"),
        pytest.param("10.0.0.0", [0, 1], id="host-names-every-rank"),
        pytest.param("10.0.0.0:8001", [1], id="host-and-port"),
        pytest.param(" 10.0.0.0:8000 , [fd00::1]:8000", [0, 2], id="list-with-spaces"),
        pytest.param("[fd00::1]", [2], id="v6-without-port"),
        pytest.param("10.0.0.9,10.0.0.0:notaport", [], id="strangers-and-nonsense"),
    ],
)
def test_header_based_testing(header, kept):
    view = pool(
        endpoints=[
            endpoint(0, host="10.0.0.0", port=8000),
            endpoint(1, host="10.0.0.0", port=8001),
            endpoint(2, host="fd00::1", port=8000),
        ]
    )
    headers = {} if header is None else {"test-epp-endpoint-selection": header}

    mask = HeaderBasedTestingFilter().filter(request(headers=headers), view)

    assert mask.nonzero()[0].tolist() == kept
