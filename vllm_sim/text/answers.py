"""What the model says: words drawn from the seed and the prompt, and how many of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from random import Random
from typing import TYPE_CHECKING, Literal
from zlib import crc32

from vllm_sim.text import tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

Law = Literal["buckets", "exact", "normal", "lognormal"]
FinishReason = Literal["stop", "length"]

LETTERS = (
    "theandforarebutnotyouallanycanhadherwasoneouroutdaygethashimhishowmannewnowoldseetwowaywho"
    "boydiditsletputsayshetoousesunskysearedbigdogcatrunsiteataskairarmartbagbedboxcarcupcutdry"
    "earendeyefarfewflyfunhathoticejobkeykidlawleglielowmapmixmudnetoilpaypenpiepotrawrowsadsix"
    "sontea"
)
WORDS = tuple(tokenizer.encode(LETTERS[at : at + 3] + " ")[0] for at in range(0, len(LETTERS), 3))
BUCKETS = (0.2, 0.3, 0.2, 0.05, 0.1, 0.15)
MEAN_TOKENS = 40
STD_TOKENS = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """Token ids of an answer and why it ends, with the stop text that ended it, if one did."""

    tokens: list[int]
    finish_reason: FinishReason
    stop_text: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerSource:
    """Draws answers. `law` is used when the request names a limit; without one the length is
    normal with mean 40 and deviation 20.

    `buckets` draws one of six equal ranges up to the limit with fixed odds, of which the last means
    the limit itself; `exact` always reaches it; `normal` and `lognormal` take `mean` and `std`.
    """

    seed: int = 0
    law: Law = "buckets"
    mean: float = MEAN_TOKENS
    std: float = STD_TOKENS

    def words(
        self,
        prompt: Sequence[int],
        *,
        limit: int | None,
        room: int,
        least: int = 0,
        ignore_eos: bool = False,
        salt: int = 0,
        allowed: Sequence[int] = (),
    ) -> Answer:
        """An answer of at most `limit` (None: no wish) and `room` tokens, at least one, made of the
        `allowed` ids where there are such."""
        rng = self._rng(prompt, salt)
        most = max(min(room, limit if limit is not None else room), 1)
        if ignore_eos and limit is not None:
            count = most
        elif limit is None:
            count = int(rng.gauss(MEAN_TOKENS, STD_TOKENS))
        else:
            count = self._draw(rng, most)
        count = min(max(count, least, 1), most)
        return Answer(rng.choices(allowed or WORDS, k=count), "length" if count >= most else "stop")

    def echo(self, text: str, *, limit: int | None, room: int) -> Answer:
        """The user's own words, cut at the limit."""
        tokens = tokenizer.encode(text) or list(WORDS[:1])
        most = max(min(room, limit if limit is not None else room), 1)
        return Answer(tokens[:most], "length" if len(tokens) > most else "stop")

    def _rng(self, prompt: Sequence[int], salt: int) -> Random:
        digest = crc32(b"".join((token & 0xFFFFFFFF).to_bytes(4, "big") for token in prompt[-256:]))
        return Random(f"{self.seed}/{len(prompt)}/{digest}/{salt}")

    def _draw(self, rng: Random, most: int) -> int:
        if self.law == "exact":
            return most
        if self.law == "normal":
            return round(rng.gauss(self.mean, self.std))
        if self.law == "lognormal":
            return round(rng.lognormvariate(*_log_parameters(self.mean, self.std)))
        bucket = rng.choices(range(len(BUCKETS)), BUCKETS)[0]
        if bucket == len(BUCKETS) - 1:
            return most
        width = most / len(BUCKETS)
        return int(rng.uniform(bucket * width, (bucket + 1) * width)) or 1


def _log_parameters(mean: float, std: float) -> tuple[float, float]:
    variance = log(1 + (std / mean) ** 2)
    return log(mean) - variance / 2, sqrt(variance)
