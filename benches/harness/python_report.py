"""Tables and JSON of Python's benches."""

import json
import statistics
from dataclasses import fields
from pathlib import Path

from .measure import Row, paired_ratio
from .report import echo_table, facts_text, figure, main_table, table


def size(count: float) -> str:
    """A number of bytes in a unit that suits it."""
    return f"{count / 1024:.3g} KiB" if count < 1000 * 1024 else f"{count / 1024**2:.3g} MiB"


def memory_table(rows: list[Row], peers: list[str]) -> str:
    """Bytes a parked fiber takes, and how many times roving's that is."""
    lines = []
    for row in rows:
        ours = row.extra.get("roving", {}).get("bytes", [])
        cells = []
        for peer in peers:
            theirs = row.extra.get(peer, {}).get("bytes", [])
            if not theirs:
                cells.append("failed" if peer in row.failures else "-")
                continue
            ratio = paired_ratio(theirs, ours)
            text = size(statistics.median(theirs))
            cells.append(text if peer == "roving" or ratio is None else f"{text} ({ratio:.2g}x)")
        lines.append([row.bench, *cells])
    return table(["parked", *peers], lines)


def scaling(rows: list[Row]) -> dict[str, dict[str, dict[int, float]]]:
    """By bench, peer and number of workers: how many times faster than the same peer on one."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for one in (row for row in rows if row.workers == 1):
        for row in (row for row in rows if row.bench == one.bench):
            for peer, samples in row.samples.items():
                ratio = paired_ratio(one.samples.get(peer, []), samples)
                if ratio is not None:
                    found.setdefault(row.bench, {}).setdefault(peer, {})[row.workers] = ratio
    return found


def scaling_table(rows: list[Row], names: list[str], peers: list[str]) -> str:
    """Speed-ups, a line for each bench and number of workers."""
    found = scaling(rows)
    lines = [
        [row.bench, str(row.workers)]
        + [
            f"{found[row.bench][peer][row.workers]:.2f}"
            if row.workers in found.get(row.bench, {}).get(peer, {})
            else "-"
            for peer in peers
        ]
        for row in rows
        if row.bench in names and row.workers > 1
    ]
    return table(["speed-up", "workers", *peers], lines)


def markdown(
    facts: dict[str, object],
    rows: list[Row],
    memory: list[Row],
    peers: list[str],
    scaled: list[str],
    missing: dict[str, str],
) -> str:
    """The whole report."""
    parts = ["# roving beside its peers, in Python", facts_text(facts)]
    if rows:
        parts.append(main_table(rows, peers))
        parts.append(
            "Medians of samples taken in turn, each peer in a process of its own. In brackets: the peer's"
            " time in roving's, the median of the rounds' own ratios; above 1, roving is faster. `~`: the"
            " middle half of the samples spreads over more than a fifth of the median. `-`: has no such"
            " thing. `workers` is also the number of cores that every peer's process may use."
        )
        if any(row.bench in scaled and row.workers > 1 for row in rows):
            parts.append("## More workers against one\n\n" + scaling_table(rows, scaled, peers))
    for bench, title in (("echo", "TCP"), ("tls_echo", "TLS")):
        served = [row for row in rows if row.bench == bench and row.samples]
        if served:
            parts.append(
                f"## {title} echo, 64 connections, 100 bytes\n\n" + echo_table(served, [*peers, "go"])
            )
    if memory:
        parts.append(
            "## Memory of one that is parked, three Python calls deep\n\n" + memory_table(memory, peers)
        )
        parts.append("Resident memory and page tables; kernel stacks of threads come on top.")
        times = [Row(f"parking {row.bench}", "start one and see it park", 0, row.samples) for row in memory]
        lines = [[row.bench] + [_time(row, peer) for peer in peers] for row in times]
        parts.append(table(["time of each", *peers], lines))
    failures = [
        f"- {row.bench}, {row.workers} worker(s), {peer}: {why}"
        for row in [*rows, *memory]
        for peer, why in row.failures.items()
    ]
    failures += [f"- {peer}: left out, {why}" for peer, why in missing.items()]
    if failures:
        parts.append("## No figure\n\n" + "\n".join(failures))
    return "\n\n".join(parts) + "\n"


def _time(row: Row, peer: str) -> str:
    median = row.median(peer)
    return "-" if median is None else figure(median)


def added(latest: Path, rows: list[Row], memory: list[Row], order: list[str]) -> tuple[list[Row], list[Row]]:
    """These rows, and those of an earlier report that have not been measured anew."""
    content = json.loads(latest.read_text())
    names = {field.name for field in fields(Row)}

    def with_old(new: list[Row], kind: str) -> list[Row]:
        measured = {(row.bench, row.workers) for row in new}
        old = [Row(**{name: row[name] for name in names}) for row in content[kind]]
        return new + [row for row in old if (row.bench, row.workers) not in measured]

    def place(row: Row) -> tuple[int, int]:
        return order.index(row.bench), row.workers

    benches = [row for row in with_old(rows, "results") if row.bench in order]
    parked = sorted(with_old(memory, "memory"), key=lambda row: int(row.bench.replace(",", "")))
    return sorted(benches, key=place), parked


def write_json(
    file: Path, facts: dict[str, object], rows: list[Row], memory: list[Row], missing: dict[str, str]
) -> None:
    """Everything there is, samples included."""
    content = {
        "facts": facts,
        "results": [row.as_json() for row in rows],
        "scaling": scaling(rows),
        "memory": [row.as_json() for row in memory],
        "missing": missing,
    }
    file.write_text(json.dumps(content, indent=1) + "\n")
