"""One number for all request bodies held at a time, so that many big prompts end in a 503."""


class ByteBudget:
    """How many bytes of request bodies the picker holds, against the most it may hold."""

    __slots__ = ("_held", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    @property
    def limit(self) -> int:
        """The most bytes that may be held."""
        return self._limit

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    def take(self, size: int) -> bool:
        """Count `size` more bytes as held; over the limit nothing is counted, and it is False."""
        if self._held + size > self._limit:
            return False
        self._held += size
        return True

    def give(self, size: int) -> None:
        """Count `size` bytes as free again."""
        assert size <= self._held, "more given back than was taken"
        self._held -= size
