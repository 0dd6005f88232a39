"""Batches of one sender wait for one another, and for nobody else's."""

import asyncio

import pytest

from services.intake.api.turns import Turns


async def test_one_sender_has_so_many_turns_at_a_time_in_their_order() -> None:
    turns, most, under_way, ended = Turns(2), 0, 0, list[int]()

    async def work(number: int) -> None:
        nonlocal most, under_way
        async with turns.of("cam-bien-1"):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            ended.append(number)

    await asyncio.gather(*(work(n) for n in range(8)))
    assert most == 2
    assert ended == list(range(8))
    assert len(turns) == 0


async def test_another_sender_does_not_wait() -> None:
    turns = Turns(1)
    async with turns.of("cam-bien-1"), turns.of("cam-bien-2"):
        assert len(turns) == 2


async def test_whoever_fails_or_gives_up_gives_the_turn_back() -> None:
    turns, waiting = Turns(1), list[asyncio.Task[None]]()
    with pytest.raises(ValueError, match="wrong"):
        async with turns.of("cam-bien-1"):
            waiting.append(asyncio.create_task(_have(turns)))
            await asyncio.sleep(0)
            waiting[0].cancel()
            raise ValueError("wrong")
    await asyncio.wait(waiting)
    await _have(turns)
    assert len(turns) == 0


async def _have(turns: Turns) -> None:
    async with turns.of("cam-bien-1"):
        pass
