"""Fan-out: ten thousand calls that wait, all at once, as plain blocking code.

usage: fan_out.py [CALLS]
"""

import random
import sys
import time

import roving


def fetch(number: int) -> int:
    """Stand in for a request to some slow service: 50 to 150 ms, all of it waiting."""
    roving.sleep(random.uniform(0.05, 0.15))
    return number % 97


def main() -> None:
    """Call it so many times and add up."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    start = time.perf_counter()
    with roving.scope() as scope:  # on the way out all are joined; the first error cancels the rest
        fibers = [scope.spawn(fetch, number) for number in range(calls)]
    total = sum(fiber.join() for fiber in fibers)
    seconds = time.perf_counter() - start

    assert total == sum(number % 97 for number in range(calls))
    workers = roving.stats()["workers"]
    print(f"{calls:,} calls of 50 to 150 ms in {seconds:.2f} s, on {workers} threads; sum {total:,}")
    print(f"one after the other they would take {calls * 0.1:,.0f} s")


if __name__ == "__main__":
    main()
