"""Draws what benches/run-python measured: plot.py REPORT.json FOLDER."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

# A colour for each peer, told apart by the colour-blind too.
COLOURS = {
    "roving": "#d1495b",
    "threads": "#30638e",
    "pool": "#7fa6c4",
    "processes": "#003d5b",
    "asyncio": "#edae49",
    "uvloop": "#8d6a1f",
    "greenlet": "#66a182",
    "gevent": "#2e4a3a",
    "go": "#00add8",
}
SCALED = ("cpu", "words")


def time_text(nanos: float, _: object = None) -> str:
    """A time in a unit that suits it."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanos >= size:
            return f"{nanos / size:.3g} {unit}"
    return f"{nanos:.3g} ns"


def size_text(count: float, _: object = None) -> str:
    """A number of bytes in a unit that suits it."""
    return f"{count / 1024:.3g} KiB" if count < 1024**2 else f"{count / 1024**2:.3g} MiB"


def save(figure: Any, report: Any, folder: Path, name: str) -> None:
    """Write a figure, with what it was measured on below it."""
    facts = report["facts"]
    versions = ", ".join(f"{key} {value}" for key, value in facts["versions"].items())
    below = f"{facts['cpu']}, {facts['cores']} cores, {facts['interpreter'].split(' (')[0]}; {versions}"
    figure.text(0.01, 0.005, f"{below}; {facts['date'][:10]}", fontsize=6, color="#666666")
    figure.savefig(folder / f"python-{name}.png", dpi=110)
    plt.close(figure)


def operations(report: Any, folder: Path) -> None:
    """Time an operation, a group of bars a bench."""
    most = max(row["workers"] for row in report["results"])
    rows = [row for row in report["results"] if row["workers"] == 1 and row["bench"] not in SCALED]
    if not rows:
        return
    peers = [peer for peer in COLOURS if any(peer in row["median_ns"] for row in rows)]
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.8 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        present = [peer for peer in peers if peer in row["median_ns"]]
        height = 0.8 / max(len(present), 4)
        for number, peer in enumerate(present):
            at = place - 0.4 + (number + 0.5) * height
            value = row["median_ns"][peer]
            label = peer if peer not in axes.get_legend_handles_labels()[1] else None
            axes.barh(at, value, height * 0.92, color=COLOURS[peer], label=label)
            ratio = row["ratio_to_roving"].get(peer)
            text = f" {time_text(value)}" + (f", {ratio:.2g}x" if ratio and ratio < 100 else "")
            text = f" {time_text(value)}, {ratio:.0f}x" if ratio and ratio >= 100 else text
            axes.text(value, at, text, va="center", fontsize=5.5)
    axes.set_yticks(range(len(rows)), [row["bench"] for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(right=axes.get_xlim()[1] * 4)
    axes.xaxis.set_major_formatter(FuncFormatter(time_text))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(f"One operation on one core, shorter is better (the report has {most} too)", fontsize=10)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.05), ncols=len(peers), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.get_layout_engine().set(rect=(0, 0.02, 1, 0.98))
    save(figure, report, folder, "operations")


def memory(report: Any, folder: Path) -> None:
    """Memory of one that is parked, by how many there are."""
    rows = report["memory"]
    if not rows:
        return
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    labels: list[float] = []
    for peer, colour in COLOURS.items():
        points = [
            (int(row["bench"].replace(",", "")), statistics.median(row["extra"][peer]["bytes"]))
            for row in rows
            if peer in row["extra"]
        ]
        if points:
            counts, sizes = zip(*points, strict=True)
            axes.plot(counts, sizes, "o-", color=colour, label=peer)
            # Those of about the same size get their names one above the other.
            above = 10 * sum(0.8 < size / sizes[-1] < 1.25 for size in labels)
            labels.append(sizes[-1])
            at, text = (counts[-1], sizes[-1]), f"{peer}, {size_text(sizes[-1])}"
            axes.annotate(text, at, (6, above), textcoords="offset points", fontsize=7, va="center")
    axes.set_xscale("log")
    axes.set_yscale("log", base=2)
    axes.set_xlim(right=axes.get_xlim()[1] * 4)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(size_text))
    axes.set_xlabel("parked at once, three Python calls deep")
    axes.set_title("Memory of each, page tables included", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))
    save(figure, report, folder, "memory")


def scaling(report: Any, folder: Path) -> None:
    """How much faster computation is on more workers."""
    found = {name: report["scaling"][name] for name in SCALED if name in report["scaling"]}
    if not found:
        return
    figure, grid = plt.subplots(
        1, len(found), figsize=(4.4 * len(found), 4), layout="constrained", squeeze=False
    )
    for axes, (name, by_peer) in zip(grid[0], found.items(), strict=True):
        most = 1
        for peer, colour in COLOURS.items():
            if peer in by_peer:
                workers = sorted(map(int, by_peer[peer]))
                most = max(most, *workers)
                speeds = [by_peer[peer][str(count)] for count in workers]
                axes.plot(workers, speeds, "o-", color=colour, label=f"{peer}, {speeds[-1]:.2f}")
        axes.plot([1, most], [1, most], "--", color="#bbbbbb", zorder=0)
        axes.set_xticks(range(1, most + 1) if most <= 8 else [2**n for n in range(most.bit_length())])
        axes.set_xlabel("workers, a core each")
        axes.set_title(f"{name}: times faster than the same on one", fontsize=10)
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))
    save(figure, report, folder, "scaling")


def main() -> None:
    """Draw all that there is."""
    report, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for draw in (operations, memory, scaling):
        draw(report, folder)


if __name__ == "__main__":
    main()
