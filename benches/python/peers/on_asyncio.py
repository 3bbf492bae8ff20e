"""asyncio, tasks on one loop; uvloop is the same on a loop of another make."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from time import perf_counter as clock
from typing import Any

import catalogue
from work import fib, merge, texts, words

Loop = asyncio.AbstractEventLoop
FACTORY: Callable[[], Loop] | None = None


@cache
def runner() -> asyncio.Runner:
    """Keep one loop for all samples."""
    return asyncio.Runner(loop_factory=FACTORY)


def in_loop(bench: Callable[[int], Coroutine[Any, Any, float]]) -> Callable[[int], float]:
    """Run a bench on the loop."""
    return lambda n: runner().run(bench(n))


async def nothing() -> None:
    """Do nothing."""


async def each(*coroutines: Coroutine[Any, Any, None]) -> float:
    """Run them as tasks, and time the whole."""
    start = clock()
    for task in [asyncio.create_task(one) for one in coroutines]:
        await task
    return clock() - start


async def spawn_join(n: int) -> float:
    """One at a time."""
    spawn = asyncio.create_task
    start = clock()
    for _ in range(n):
        await spawn(nothing())
    return clock() - start


async def spawn_batch(n: int) -> float:
    """Many, then joined."""
    spawn = asyncio.create_task
    start = clock()
    for _ in range(n // catalogue.BATCH or 1):
        for task in [spawn(nothing()) for _ in range(catalogue.BATCH)]:
            await task
    return clock() - start


async def turns(n: int) -> None:
    """Yield n times."""
    sleep = asyncio.sleep
    for _ in range(n):
        await sleep(0)


async def taking_turns(n: int) -> float:
    """Two of them."""
    return await each(turns(n // 2), turns(n // 2))


def channel(capacity: int) -> Callable[[int], Awaitable[float]]:
    """One task puts, another gets."""

    async def send(to: asyncio.Queue[int], n: int) -> None:
        for item in range(n):
            await to.put(item)

    async def bench(n: int) -> float:
        pipe: asyncio.Queue[int] = asyncio.Queue(capacity)
        sender = asyncio.create_task(send(pipe, n))
        start = clock()
        for _ in range(n):
            await pipe.get()
        await sender
        return clock() - start

    return bench


async def alone(n: int) -> float:
    """Nobody else wants it."""
    lock = asyncio.Lock()
    start = clock()
    for _ in range(n):
        async with lock:
            pass
    return clock() - start


class Count:
    """What the rivals count."""

    value = 0


async def rivals(n: int) -> float:
    """Each counts under the lock."""
    lock, count = asyncio.Lock(), Count()

    async def rival(n: int) -> None:
        for _ in range(n):
            async with lock:
                count.value += 1

    return await each(*[rival(n // catalogue.RIVALS or 1) for _ in range(catalogue.RIVALS)])


async def handed_on(n: int) -> float:
    """Each yields while it has the lock."""
    lock, sleep = asyncio.Lock(), asyncio.sleep

    async def rival(n: int) -> None:
        for _ in range(n):
            async with lock:
                await sleep(0)

    return await each(*[rival(n // catalogue.RIVALS or 1) for _ in range(catalogue.RIVALS)])


async def sleepers(n: int) -> float:
    """All at once."""
    return await each(*[asyncio.sleep(catalogue.SLEEP) for _ in range(n)])


async def cpu(n: int) -> float:
    """Computation alone: one core is all it has."""

    async def task() -> None:
        fib(catalogue.FIB)

    return sum([await each(*[task() for _ in range(64)]) for _ in range(n)])


async def count_words(n: int) -> float:
    """Data go in and come out."""

    async def task(text: str) -> Any:
        return words(text)

    data = texts()
    start = clock()
    for _ in range(n):
        counts = await asyncio.gather(*map(task, data))
        merge(counts[0], counts[1:])
    return clock() - start


BENCHES: dict[str, Callable[[int], float]] = {
    name: in_loop(bench)  # type: ignore[arg-type]
    for name, bench in {
        "spawn_join": spawn_join,
        "spawn_batch": spawn_batch,
        "yield": taking_turns,
        "channel": channel(1),
        "channel_buffered": channel(catalogue.BUFFER),
        "lock": alone,
        "lock_rivals": rivals,
        "lock_handed_on": handed_on,
        "sleepers": sleepers,
        "cpu": cpu,
        "words": count_words,
    }.items()
}


def park(n: int) -> object:
    """Park tasks three calls deep."""

    async def start() -> object:
        gate = asyncio.Event()

        async def outer() -> None:
            await middle()

        async def middle() -> None:
            await inner()

        async def inner() -> None:
            await gate.wait()

        tasks = [asyncio.create_task(outer()) for _ in range(n)]
        await asyncio.sleep(0)
        return tasks

    return runner().run(start())
