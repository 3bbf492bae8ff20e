"""Samples of every peer in turn, and what they come to."""

import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from .processes import Failed

PEERS = ("roving", "tokio", "may", "threads", "go")

# One sample of a peer: nanoseconds an operation, and other figures by name.
Sampler = Callable[[], dict[str, float]]


@dataclass
class Row:
    """One line of the table: a bench with a number of workers."""

    bench: str
    op: str
    workers: int
    samples: dict[str, list[float]] = field(default_factory=dict)
    extra: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def median(self, peer: str) -> float | None:
        """Return a peer's figure."""
        samples = self.samples.get(peer)
        return statistics.median(samples) if samples else None

    def ratio(self, peer: str) -> float | None:
        """Return how many times roving's time a peer takes: the median over the rounds, each by itself."""
        return paired_ratio(self.samples.get(peer, []), self.samples.get("roving", []))

    def unsteady(self, peer: str) -> bool:
        """Whether the middle half of the samples spreads over more than a fifth of the median."""
        samples = self.samples.get(peer, [])
        if len(samples) < 4:
            return False
        low, middle, high = statistics.quantiles(samples, n=4)
        return high - low > middle / 5

    def as_json(self) -> dict[str, object]:
        """Everything there is, with the figures that follow from the samples."""
        medians = {peer: self.median(peer) for peer in self.samples}
        ratios = {peer: self.ratio(peer) for peer in self.samples if peer != "roving"}
        return asdict(self) | {"median_ns": medians, "ratio_to_roving": ratios}


def paired_ratio(of: list[float], to: list[float]) -> float | None:
    """Return the median ratio of samples taken in the same round."""
    pairs = [one / other for one, other in zip(of, to, strict=False) if other > 0]
    return statistics.median(pairs) if pairs else None


def interleave(rows: list[tuple[Row, dict[str, Sampler]]], rounds: int) -> None:
    """Take `rounds` samples of every peer in every row, each round beginning with another peer.

    A peer that fails is left out from there on.
    """
    for number in range(rounds):
        for row, samplers in rows:
            peers = list(samplers)
            first = number % len(peers) if peers else 0
            for peer in peers[first:] + peers[:first]:
                if peer in row.failures:
                    continue
                try:
                    sample = samplers[peer]()
                except Failed as failure:
                    row.failures[peer] = str(failure)
                    row.samples.pop(peer, None)
                    print(f"  {row.bench}, {row.workers} worker(s): {peer} {failure}", file=sys.stderr)
                    continue
                row.samples.setdefault(peer, []).append(sample["ns"])
                for name, value in sample.items():
                    if name not in ("ns", "ops"):
                        row.extra.setdefault(peer, {}).setdefault(name, []).append(value)
