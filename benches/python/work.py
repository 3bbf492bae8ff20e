"""What the benches have done: importable by name, so that other processes can be asked for it too."""

import random
from collections import Counter

TASKS = 64


def nothing() -> None:
    """Do nothing."""


def fib(n: int) -> int:
    """Compute a Fibonacci number the slow way: calls, comparisons, small integers."""
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def words(text: str) -> Counter[str]:
    """Count the words of a text."""
    counts: Counter[str] = Counter()
    for word in text.split():
        counts[word.strip(".,").lower()] += 1
    return counts


def texts(many: int = TASKS, length: int = 8_000) -> list[str]:
    """Make up texts, always the same ones."""
    chance = random.Random(7)
    letters = "etaoinshrdlu"
    known = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(500)]
    return [" ".join(chance.choices(known, k=length)) + "." for _ in range(many)]


def merge(counts: Counter[str], others: list[Counter[str]]) -> Counter[str]:
    """Add up counts."""
    for other in others:
        counts.update(other)
    return counts
