"""What a run was made of, so that a kept one is not taken for one of something else."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from typing import Final

import msgspec

from epp_lab.picker import policy_text
from epp_lab.trace import find_trace
from epp_lab.workload import Trace, Workload

BYTES: Final = 8


def fingerprint(workload: Workload, policy: str) -> str:
    """Of what the workload says of a run, its trace and the policy's text. Not of the code.

    Raises BadTrace and UnknownPolicy where one of them is not there.
    """
    # Without what is left to defaults, so that a new field changes no old fingerprint.
    said = workload.model_dump(mode="json", exclude_defaults=True, exclude={"about", "loads"})
    parts = [msgspec.json.encode(said), (policy_text(policy) or "").encode()]
    if isinstance(workload.requests, Trace):
        path = find_trace(workload.requests.file)
        stat = path.stat()
        parts.append(_content(str(path), stat.st_mtime_ns, stat.st_size))
    digest = blake2b(digest_size=BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()


@cache
def _content(path: str, _changed: int, _size: int) -> bytes:
    with open(path, "rb") as stream:
        return blake2b(stream.read()).digest()
