"""Addresses as people and gateways write them: read, or refused."""

import pytest

from epp.domain.endpoint import split_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:8000", ("10.0.0.1", 8000)),
        (" pod-a ", ("pod-a", None)),
        ("[2001:DB8:0:0::1]:8000", ("2001:db8::1", 8000)),
        ("2001:0db8::0001", ("2001:db8::1", None)),
        ("[FD00::1]", ("fd00::1", None)),
    ],
)
def test_an_address_is_read_in_its_canonical_form(text, address):
    assert split_address(text) == address


@pytest.mark.parametrize("text", ["", ":1", "[::1", "[::1]x", "a:b:c", "a:0", "a:\u00b2", "[]:1"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="unreadable address"):
        split_address(text)
