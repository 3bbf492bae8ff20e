"""An index in memory that fibers write and read at the same time, on all cores, and nobody copies.

usage: shared_index.py [DOCUMENTS]

Which lock for what is the subject of docs/MEMORY_MODEL.md: a dict is safe to read while others write it,
but to look up and to append are two operations, so the writers of a shard take turns.
"""

import random
import sys
import time

import roving

SHARDS = 16
WRITERS, READERS = 8, 8


class Index:
    """Which documents have a word."""

    def __init__(self) -> None:
        """Begin with an empty index."""
        self.shards: list[dict[str, list[int]]] = [{} for _ in range(SHARDS)]
        self.locks = [roving.Lock() for _ in range(SHARDS)]

    def add(self, document: int, words: set[str]) -> None:
        """Enter a document under each of its words."""
        for word in words:
            shard = hash(word) % SHARDS
            with self.locks[shard]:
                self.shards[shard].setdefault(word, []).append(document)

    def find(self, *words: str) -> set[int]:
        """Find the documents that have all the words; takes no lock."""
        lists = [self.shards[hash(word) % SHARDS].get(word, []) for word in words]
        return set[int].intersection(*(set(documents) for documents in lists))


def write(index: Index, documents: dict[int, set[str]], mine: range) -> None:
    """Enter some documents."""
    for number in mine:
        index.add(number, documents[number])
        roving.checkpoint()  # others of this worker want a turn too


def read(index: Index, known: list[str], done: roving.Event, seed: int) -> int:
    """Ask until all is written; count the answers."""
    chance, answers = random.Random(seed), 0
    while not done.is_set():
        answers += len(index.find(*chance.sample(known, 2))) > 0
        roving.yield_now()
    return answers


def main() -> None:
    """Write and read at once, then check every word."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    chance = random.Random(7)
    known = [f"word{number}" for number in range(500)]
    documents = {number: set(chance.sample(known, 20)) for number in range(count)}

    index, done = Index(), roving.Event()
    start = time.perf_counter()
    readers = [roving.spawn(read, index, known, done, seed) for seed in range(READERS)]
    with roving.scope() as scope:
        for first in range(WRITERS):
            scope.spawn(write, index, documents, range(first, count, WRITERS))
    done.set()
    answers = sum(reader.join() for reader in readers)
    seconds = time.perf_counter() - start

    for word in known:
        assert index.find(word) == {number for number, words in documents.items() if word in words}
    print(f"{count:,} documents entered under 20 words each, {answers:,} answers meanwhile, {seconds:.2f} s")


if __name__ == "__main__":
    main()
