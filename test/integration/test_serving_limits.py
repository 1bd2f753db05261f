"""The ports are given the limits of the options."""

import pytest
import structlog
from support.ext_proc import RecordingPath

from epp.app.serving import Serving
from epp.config.options import RunOptions
from epp.wire.budget import ByteBudget
from epp.wire.readiness import Readiness


@pytest.mark.parametrize(
    ("body", "held"), [(1 << 20, 8 << 20), (64 << 20, 256 << 20), (64 << 20, 1 << 30)]
)
async def test_the_byte_budget_is_full_before_a_connection_is_cut(body, held):
    options = RunOptions(secure_serving=False, max_body_bytes=body, max_held_bytes=held)
    serving = Serving(
        options, RecordingPath(), Readiness(), ByteBudget(held), structlog.get_logger()
    )

    assert serving.ext_proc.limits.max_message_size > body
    assert serving.ext_proc.limits.max_assembling >= held + body
