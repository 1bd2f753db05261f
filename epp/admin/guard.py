"""Who may read the debug pages: programs on this machine, not pages in its browser.

A browser can be made to ask a loopback address for a stranger, under the stranger's own host name
(DNS rebinding). A request that names this machine, or any address, is not one of those.
"""

import ipaddress
from collections.abc import Mapping
from typing import Final

LOCAL_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
OWN_SITE: Final = frozenset({"none", "same-origin"})


def host_name(host: str) -> str:
    """The name in a Host header, without port, brackets and trailing dot, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def names_this_machine(host: str, allowed: frozenset[str] = frozenset()) -> bool:
    """Whether a Host header is an address, a local name or one of `allowed`."""
    name = host_name(host)
    if name in LOCAL_NAMES or name in allowed:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def refusal(headers: Mapping[str, str], allowed: frozenset[str] = frozenset()) -> str | None:
    """Why a debug request with these headers is refused, None if it is not."""
    if not names_this_machine(headers.get("Host", ""), allowed):
        return "the Host header must be an address or localhost; use --debug-allowed-host for more"
    if "Origin" in headers or headers.get("Sec-Fetch-Site", "none") not in OWN_SITE:
        return "requests made by a page in a browser are refused"
    return None
