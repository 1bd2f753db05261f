"""Who may read the debug pages."""

import pytest

from epp.admin.guard import names_this_machine, refusal


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:9091", "[::1]:9091", "localhost:9091", "LOCALHOST", "10.1.2.3:80"],
)
def test_an_address_or_a_local_name_is_this_machine(host):
    assert names_this_machine(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:9091",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[evil]",
        "2130706433",
        "0x7f000001",
    ],
)
def test_any_other_name_is_not(host):
    assert not names_this_machine(host)


def test_a_name_may_be_allowed():
    allowed = frozenset({"picker.internal"})

    assert names_this_machine("picker.internal:9091", allowed)


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Host": "localhost"}, False),
        ({"Host": "localhost", "Sec-Fetch-Site": "none"}, False),
        ({"Host": "localhost", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Host": "localhost", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Host": "localhost", "Sec-Fetch-Site": "same-site"}, True),
        ({"Host": "localhost", "Origin": "null"}, True),
        ({}, True),
    ],
    ids=str,
)
def test_a_page_in_a_browser_is_refused(headers, refused):
    assert (refusal(headers) is not None) is refused
