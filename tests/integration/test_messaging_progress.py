"""Whether a group has caught up: with all that was published before somebody asked, by whichever consumer."""

import pytest

from shared.messaging import CatchUp, connect, group_progress
from shared.messaging.redis.consumer_group import RedisConsumerGroup
from tests.servers import Servers, new_redis

STREAMS = {"trucban.one": ("group",), "trucban.two": ("group",)}


async def test_a_group_has_caught_up_once_all_of_before_is_acknowledged_in_every_stream(servers: Servers) -> None:
    redis = connect(await new_redis(servers))
    try:
        one, two = (RedisConsumerGroup(redis, stream, "group", "a") for stream in STREAMS)
        for group in (one, two):
            await group.create()
        for number in (1, 2):
            await redis.xadd("trucban.two", {"__data__": b"{}"}, id=f"{number}-0")
        catch_up = CatchUp(redis, STREAMS, "group")
        await catch_up.look(from_nothing=True)
        assert not catch_up.is_done
        await two.read_new(10, 1)
        await two.acknowledge(["1-0"])
        await redis.xadd("trucban.two", {"__data__": b"{}"}, id="3-0")
        await catch_up.look(from_nothing=False)
        assert not catch_up.is_done, "entry 2 is delivered and not handled"
        await two.acknowledge(["2-0"])
        await catch_up.look(from_nothing=False)
        assert catch_up.is_done, "entry 3 came later"
    finally:
        await redis.aclose()


async def test_where_nothing_was_published_there_is_nothing_to_catch_up_with(servers: Servers) -> None:
    redis = connect(await new_redis(servers))
    try:
        catch_up = CatchUp(redis, STREAMS, "group")
        await catch_up.look(from_nothing=False)
        assert catch_up.is_done
    finally:
        await redis.aclose()


async def test_an_empty_stream_counts_once_its_relay_was_there_and_left_it_empty(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = connect(await new_redis(servers))
    try:
        catch_up = CatchUp(redis, {"trucban.one": ("group",)}, "group")
        stream = redis.stream("trucban.one", ("group",))
        await stream.create_groups()
        await catch_up.look(from_nothing=True)
        assert not catch_up.is_done, "no relay was there"
        await stream.raise_handled(0)
        await catch_up.look(from_nothing=True)
        assert not catch_up.is_done, "its relay may be about to append"
        monkeypatch.setattr(group_progress, "EMPTY_SECONDS", 0.0)
        await catch_up.look(from_nothing=True)
        assert catch_up.is_done
    finally:
        await redis.aclose()
