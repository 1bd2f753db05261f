"""Which endpoints are followed, and whose slot their events are told of."""

import asyncio

import msgspec
import zmq
from support.stores import Log, pods

from epp.datastore.residency import Residency
from epp.domain.endpoint import Endpoint
from epp.kvevents.follower import Follower
from epp.kvevents.settings import FollowSettings

BATCH = msgspec.msgpack.encode([1.0, [["BlockStored", [7], None, list(range(16)), 16, None]], 0])


async def test_an_endpoint_that_left_and_came_back_unseen_is_followed_in_its_new_slot():
    residency = Residency()
    clock = asyncio.get_running_loop().time
    follower = Follower(residency, FollowSettings(connect=False), clock, Log())
    follower.open()
    (pod,) = pods(1)
    for slot in (3, 5):
        follower.follow([(pod, slot)])
        for source in follower.sources.values():
            source.heard(0, BATCH)
    held = residency.held(3), residency.held(5)
    follower.close()

    assert held == (0, 1)


async def test_pools_of_hundreds_are_followed_whole():
    clock = asyncio.get_running_loop().time
    follower = Follower(Residency(), FollowSettings(port=1), clock, Log())
    follower.open()
    try:
        follower.follow([(pod, slot) for slot, pod in enumerate(loopback(400))])
        followed = len(follower.status())
    finally:
        follower.close()

    assert followed == 400


async def test_a_replay_that_gets_no_socket_has_failed():
    clock = asyncio.get_running_loop().time
    settings = FollowSettings(connect=False, bind="tcp://127.0.0.1:*", replay_port=1)
    follower = Follower(Residency(), settings, clock, Log())
    follower._context.set(zmq.MAX_SOCKETS, 1)
    follower.open()
    try:
        follower.follow([(pods(1)[0], 0)])
        (source,) = follower.sources.values()
        source.linked()
    finally:
        follower.close()

    assert not source.sequence.asking
    assert follower.counts.replays["failed"] == 1


def loopback(size):
    """Endpoints at addresses of this machine where nobody listens."""
    return [
        Endpoint(name=f"pod-{n}", host=f"127.0.{n // 250}.{n % 250 + 1}", port=8000)
        for n in range(size)
    ]
