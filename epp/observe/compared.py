"""What was predicted of a request's cached tokens, beside what its engine reported."""

import msgspec


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One request whose response told its usage."""

    id: str
    client_id: str = ""
    endpoint: str
    tokens_by: str
    """Who told its tokens: request, render, render-prefix, tokenize, local, or bytes for nobody."""
    tokens: int
    """Of all prompts, as they were matched."""
    reported_tokens: int
    """Of all prompts, as the engine counted them."""
    predicted: int
    """Tokens the endpoint was believed to have cached."""
    cached: int | None
    """Tokens the engine had cached; null where it does not say."""
    live: bool
    """Whether the endpoint's events arrived without a gap."""
    salted: bool = False
    adapter: str = ""
