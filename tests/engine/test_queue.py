from __future__ import annotations

import asyncio
import random

import pytest

from engine.queue import FairQueue


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def line_up(queue: FairQueue, *people: str) -> tuple[list[str], list[asyncio.Task[None]]]:
    """Requests of these people, in this order. Returns the order in which they are served, and their tasks."""
    served: list[str] = []

    async def request(person: str) -> None:
        async with queue.slot(person):
            served.append(person)
            await asyncio.sleep(0)

    tasks = []
    for person in people:
        tasks.append(asyncio.create_task(request(person)))
        await settle()
    return served, tasks


async def slots_left(queue: FairQueue, at_most: int) -> int:
    """How many slots can be taken now without waiting."""
    taken = 0
    async with asyncio.timeout(10):
        holders = []
        for _ in range(at_most + 1):
            slot = queue.slot("counter")
            entering = asyncio.create_task(slot.__aenter__())
            await settle()
            if not entering.done():
                entering.cancel()
                await asyncio.gather(entering, return_exceptions=True)
                break
            holders.append(slot)
            taken += 1
        for slot in holders:
            await slot.__aexit__(None, None, None)
    return taken


async def test_no_more_requests_than_slots_are_served_at_once() -> None:
    queue = FairQueue(3)
    serving = most = 0

    async def request(person: str) -> None:
        nonlocal serving, most
        async with queue.slot(person):
            serving += 1
            most = max(most, serving)
            await asyncio.sleep(0)
            serving -= 1

    await asyncio.gather(*(request(f"person {i % 4}") for i in range(40)))
    assert most == 3


async def test_requests_of_one_person_are_served_in_the_order_in_which_they_came() -> None:
    queue = FairQueue(1)
    order: list[int] = []

    async def request(number: int) -> None:
        async with queue.slot("ann"):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(request(number) for number in range(20)))
    assert order == list(range(20))


async def test_fifty_requests_of_one_person_delay_another_by_one_turn_at_most() -> None:
    queue = FairQueue(1)
    async with queue.slot("ann"):
        served, tasks = await line_up(queue, *["ann"] * 50, "bob")
    await asyncio.gather(*tasks)
    assert served.index("bob") <= 1
    assert served.count("ann") == 50


async def test_people_who_wait_are_served_in_turn() -> None:
    queue = FairQueue(1)
    async with queue.slot("zoe"):
        served, tasks = await line_up(queue, "ann", "ann", "ann", "bob", "bob", "cid")
    await asyncio.gather(*tasks)
    assert served == ["ann", "bob", "cid", "ann", "bob", "ann"]


async def test_a_request_that_fails_gives_its_slot_back() -> None:
    queue = FairQueue(1)
    with pytest.raises(ZeroDivisionError):
        async with queue.slot("ann"):
            raise ZeroDivisionError
    assert await slots_left(queue, 1) == 1


async def test_whoever_stops_waiting_leaves_the_line() -> None:
    queue = FairQueue(1)
    async with queue.slot("zoe"):
        served, tasks = await line_up(queue, "ann", "bob", "cid")
        tasks[1].cancel()
        await settle()
        assert queue.waiting == 2
    await asyncio.gather(*tasks, return_exceptions=True)
    assert served == ["ann", "cid"]


async def test_a_slot_that_comes_in_the_moment_of_cancellation_goes_to_the_next() -> None:
    queue = FairQueue(1)
    async with queue.slot("zoe"):
        served, tasks = await line_up(queue, "ann", "bob")
    tasks[0].cancel()  # ann's turn has come, and she has not run since
    await asyncio.wait_for(tasks[1], 10)
    assert served == ["bob"]
    assert await slots_left(queue, 1) == 1


async def test_a_cancellation_does_not_cost_a_person_the_place_in_line() -> None:
    queue = FairQueue(1)
    async with queue.slot("zoe"):
        served, tasks = await line_up(queue, "ann", "bob", "ann")
        tasks[0].cancel()  # not run yet when the slot is passed on
    await asyncio.gather(*tasks, return_exceptions=True)
    assert served == ["ann", "bob"]


@pytest.mark.parametrize("seed", range(30))
async def test_no_slot_is_lost_or_doubled_however_requests_come_and_go(seed: int) -> None:
    chance = random.Random(seed)
    slots = chance.randint(1, 4)
    queue = FairQueue(slots)
    serving = 0

    async def request(person: str, turns: int, fails: bool) -> None:
        nonlocal serving
        async with queue.slot(person):
            serving += 1
            assert serving <= slots
            try:
                for _ in range(turns):
                    await asyncio.sleep(0)
                if fails:
                    raise ZeroDivisionError
            finally:
                serving -= 1

    tasks: list[asyncio.Task[None]] = []
    for _ in range(300):
        move = chance.random()
        if move < 0.5:
            what = request(chance.choice("abcde"), chance.randint(0, 5), chance.random() < 0.1)
            tasks.append(asyncio.create_task(what))
        elif move < 0.75 and tasks:
            chance.choice(tasks).cancel()
        else:
            await asyncio.sleep(0)
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert not any(isinstance(outcome, AssertionError) for outcome in outcomes)
    assert serving == 0
    assert queue.waiting == 0
    assert await slots_left(queue, slots) == slots
