"""Tables for people, JSON for programs."""

import json
import statistics
from dataclasses import asdict
from pathlib import Path

from .criterion import Estimate
from .measure import PEERS, Row, paired_ratio


def figure(nanos: float) -> str:
    """A time in a unit that suits it."""
    for unit, size in (("ms", 1e6), ("us", 1e3)):
        if nanos >= size:
            return f"{nanos / size:.3g} {unit}" if nanos < 1000 * size else f"{nanos / size:.0f} {unit}"
    return f"{nanos:.3g} ns"


def cell(row: Row, peer: str) -> str:
    """A peer's figure, and its ratio to roving's."""
    median = row.median(peer)
    if median is None:
        return "failed" if peer in row.failures else "-"
    text = ("~" if row.unsteady(peer) else "") + figure(median)
    ratio = row.ratio(peer)
    if peer == "roving" or ratio is None:
        return text
    return f"{text} ({ratio:.2g}x)" if ratio < 10 else f"{text} ({ratio:.0f}x)"


def table(head: list[str], lines: list[list[str]]) -> str:
    """A Markdown table, its columns as wide as they need be."""
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]

    def render(line: list[str]) -> str:
        return "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([render(head), rule, *map(render, lines)])


def main_table(rows: list[Row], peers: list[str]) -> str:
    """All rows: time an operation, and how many times roving's time the peers take."""
    lines = [[row.bench, str(row.workers), *(cell(row, peer) for peer in peers), row.op] for row in rows]
    return table(["bench", "workers", *peers, "one operation"], lines)


def speed_ups(rows: list[Row]) -> dict[str, dict[str, float]]:
    """How much faster benches of pure computation are with all workers than with one."""
    found: dict[str, dict[str, float]] = {}
    for name in ("forkjoin", "fib_cutoff", "fib", "skynet"):
        by_workers = {row.workers: row for row in rows if row.bench == name}
        if len(by_workers) != 2:
            continue
        one, many = by_workers[min(by_workers)], by_workers[max(by_workers)]
        for peer in PEERS:
            ratio = paired_ratio(one.samples.get(peer, []), many.samples.get(peer, []))
            if ratio is not None:
                found.setdefault(name, {})[peer] = ratio
    return found


def speed_up_table(found: dict[str, dict[str, float]], peers: list[str]) -> str:
    """The speed-ups as a table."""
    lines = [
        [name, *(f"{ratios[peer]:.2f}" if peer in ratios else "-" for peer in peers)]
        for name, ratios in found.items()
    ]
    return table(["speed-up", *peers], lines)


def echo_table(rows: list[Row], peers: list[str]) -> str:
    """What the echo servers did: messages a second, latency, processor time of the server."""
    lines = []
    for row in rows:
        for peer in peers:
            median = row.median(peer)
            if median is None:
                continue
            extra = {name: statistics.median(values) for name, values in row.extra[peer].items()}
            ratio = row.ratio(peer)
            lines.append(
                [
                    str(row.workers),
                    peer,
                    f"{1e9 / median:,.0f}",
                    "-" if ratio is None else f"{1 / ratio:.2f}",
                    figure(extra["median_ns"]),
                    figure(extra["p99_ns"]),
                    figure(extra["server_cpu_ns"]),
                ]
            )
    head = ["workers", "server", "messages/s", "of roving's", "median", "p99", "server CPU a message"]
    return table(head, lines)


def criterion_table(estimates: list[Estimate]) -> str:
    """Criterion's medians with their confidence intervals."""
    lines = [
        [e.bench, str(e.workers), e.peer, figure(e.median), f"{figure(e.low)} to {figure(e.high)}"]
        for e in estimates
    ]
    return table(["bench", "workers", "peer", "median", "95% interval"], lines)


def facts_text(facts: dict[str, object]) -> str:
    """The facts, a line each."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {text}" for key, text in value.items())
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        lines.append(f"- {name}: {value}")
    return "\n".join(lines)


def markdown(
    facts: dict[str, object], rows: list[Row], echo: list[Row], estimates: list[Estimate], peers: list[str]
) -> str:
    """The whole report."""
    parts = ["# roving beside its peers", facts_text(facts)]
    if rows:
        parts.append(main_table(rows, peers))
        parts.append(
            "Medians of samples taken in turn. In brackets: the peer's time in roving's, the median of the"
            " rounds' own ratios; above 1, roving is faster. `~`: the middle half of the samples spreads over"
            " more than a fifth of the median."
        )
        found = speed_ups(rows)
        if found:
            parts.append("## All workers against one\n\n" + speed_up_table(found, peers))
    if any(row.samples for row in echo):
        parts.append("## TCP echo, 64 connections, 100 bytes\n\n" + echo_table(echo, peers))
    if estimates:
        parts.append("## Micro benches under criterion\n\n" + criterion_table(estimates))
    failures = [
        f"- {row.bench}, {row.workers} worker(s), {peer}: {why}"
        for row in [*rows, *echo]
        for peer, why in row.failures.items()
    ]
    if failures:
        parts.append("## No figure\n\n" + "\n".join(failures))
    return "\n\n".join(parts) + "\n"


def write_json(
    file: Path, facts: dict[str, object], rows: list[Row], echo: list[Row], estimates: list[Estimate]
) -> None:
    """Everything there is, samples included."""
    content = {
        "facts": facts,
        "results": [row.as_json() for row in rows],
        "speed_ups": speed_ups(rows),
        "echo": [row.as_json() for row in echo],
        "criterion": [asdict(estimate) for estimate in estimates],
    }
    file.write_text(json.dumps(content, indent=1) + "\n")
