"""Slots, the queue, and the answers when both are full."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from unimoe_serving.admission import Admission
from unimoe_serving.config import ServerLimits
from unimoe_serving.errors import RequestError


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(limited())


def test_slots_go_in_the_order_in_which_they_were_asked_for() -> None:
    async def work() -> None:
        admission = Admission(ServerLimits(max_streams=2, max_queue=10))
        order: list[int] = []
        most = 0

        async def one(index: int) -> None:
            nonlocal most
            async with admission.slot():
                order.append(index)
                most = max(most, admission.active)
                await asyncio.sleep(0.01)

        await asyncio.gather(*map(one, range(8)))
        assert order == list(range(8)) and most == 2
        assert admission.active == admission.waiting == 0
        await admission.wait_idle()

    run(work)


def test_a_full_queue_is_429_and_a_long_wait_503() -> None:
    async def work() -> None:
        admission = Admission(ServerLimits(max_streams=1, max_queue=1, queue_s=0.05))
        async with admission.slot():
            waiting = asyncio.create_task(hold(admission))
            await asyncio.sleep(0)
            with pytest.raises(RequestError, match="which is the limit") as full:
                await hold(admission)
            assert full.value.status == 429 and int(full.value.headers["retry-after"]) >= 1
            with pytest.raises(RequestError, match="no stream ended within") as late:
                await waiting
            assert late.value.status == 503 and int(late.value.headers["retry-after"]) >= 1
        await hold(admission)
        assert admission.active == admission.waiting == 0

    run(work)


def test_who_leaves_the_queue_takes_no_slot() -> None:
    async def work() -> None:
        admission = Admission(ServerLimits(max_streams=1, max_queue=5))
        async with admission.slot():
            waiting = [asyncio.create_task(hold(admission)) for _ in range(3)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            assert admission.waiting == 0 and admission.active == 1
        await hold(admission)

    run(work)


def test_draining_lets_those_that_are_in_go_on() -> None:
    async def work() -> None:
        admission = Admission(ServerLimits(max_streams=1, max_queue=5))
        async with AsyncExitStack() as held:
            await held.enter_async_context(admission.slot())
            waiting = asyncio.create_task(hold(admission))
            await asyncio.sleep(0)
            admission.drain()
            with pytest.raises(RequestError, match="shutting down") as refused:
                await hold(admission)
            assert refused.value.status == 503
            assert not waiting.done()
        await waiting
        await admission.wait_idle()

    run(work)


def test_draining_lets_a_conversation_go_on() -> None:
    """Between its sentences no stream holds a slot, and the server is not idle."""

    async def work() -> None:
        admission = Admission(ServerLimits(max_streams=1, max_queue=5))
        with admission.conversation() as accepted:
            admission.drain()
            assert accepted
            async with admission.slot(accepted=accepted):
                pass
            idle = asyncio.create_task(admission.wait_idle())
            await asyncio.sleep(0)
            assert not idle.done()
        await idle
        with admission.conversation() as accepted:
            assert not accepted

    run(work)


async def hold(admission: Admission) -> None:
    async with admission.slot():
        pass
