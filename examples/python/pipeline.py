"""A pipeline: lines are made, parsed by several fibers, and summed up, with channels between.

usage: pipeline.py [LINES]

A channel's capacity is what keeps a fast stage from running away from a slow one: its `send` waits.
"""

import sys
from collections import Counter

import roving

PARSERS = 4


def produce(lines: int, out: roving.Channel[str]) -> None:
    """Make up log lines; closing the channel says that there are no more."""
    with out:
        for number in range(lines):
            status = 500 if number % 100 == 0 else 200
            out.send(f"GET /item/{number % 10} {status} {number % 250}ms")


def parse(source: roving.Channel[str], out: roving.Channel[tuple[str, int, int]]) -> None:
    """Parse until there are no more."""
    for line in source:
        _method, path, status, took = line.split()
        out.send((path, int(status), int(took.removesuffix("ms"))))


def main() -> None:
    """Build it, run it, say what came of it."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    raw: roving.Channel[str] = roving.Channel(100)
    parsed: roving.Channel[tuple[str, int, int]] = roving.Channel(100)

    def parse_all() -> None:
        with parsed, roving.scope() as parsers:  # closed when the last parser has ended
            for _ in range(PARSERS):
                parsers.spawn(parse, raw, parsed)

    requests: Counter[str] = Counter()
    errors = slowest = 0
    with roving.scope() as scope:
        scope.spawn(produce, lines, raw)
        scope.spawn(parse_all)
        for path, status, took in parsed:
            requests[path] += 1
            errors += status >= 500
            slowest = max(slowest, took)

    assert requests.total() == lines
    print(f"{lines:,} requests for {len(requests)} paths, {errors:,} errors, the slowest took {slowest} ms")


if __name__ == "__main__":
    main()
