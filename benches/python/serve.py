#!/usr/bin/env python3
"""`roving serve` beside Granian and gunicorn: requests a second, latency, memory, time to the first response.

Every server runs the same application on the same interpreter, in turn and several times over; wrk asks
(Debian: `apt-get install wrk`), on the same processors. Medians of the rounds, and the ratio of roving to
each peer, round by round. Peers are installed into .build/serve; those that cannot be are named and left out.
"""

import argparse
import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PACKAGES = REPOSITORY / ".build" / "serve"
PEERS = {"granian": "granian==2.8.7", "gunicorn": "gunicorn==27.0.1"}
FLASK = "flask==3.1.3"
APPS = {"hello": "serve_app:hello", "flask": "serve_app:flask_app", "sleeping": "serve_app:sleeping"}


@dataclass
class Sample:
    """One run of wrk against one server."""

    rate: float
    p50: float
    p99: float
    errors: int
    memory: float
    start: float


@dataclass
class Series:
    """The samples of a server."""

    samples: list[Sample] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Give the median of one figure."""
        return float(statistics.median(getattr(sample, name) for sample in self.samples))


def command(server: str, python: str, app: str, port: int, workers: int, connections: int) -> list[str]:
    """Say how a server is started, with as many threads or turns as it needs for so many connections."""
    many = max(64, connections)
    if server == "roving":
        run = [python, "-m", "roving", "serve", app, "--bind", f"127.0.0.1:{port}", "--log-level", "error"]
        return [*run, "--workers", str(workers), "--limit-concurrency", str(max(1000 * workers, connections))]
    if server == "granian":
        run = [python, "-m", "granian", "--interface", "wsgi", "--port", str(port), "--log-level", "error"]
        threads = str(many if app == APPS["sleeping"] else workers)
        return [
            *run,
            "--workers",
            "1",
            "--runtime-threads",
            "1",
            "--blocking-threads",
            threads,
            "--no-ws",
            app,
        ]
    run = [python, "-m", "gunicorn", "--worker-class", "gthread", "--bind", f"127.0.0.1:{port}"]
    return [*run, "--workers", "1", "--threads", str(64), "--log-level", "error", "--keep-alive", "60", app]


def answers(port: int) -> bool:
    """Ask once."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def resident(pid: int) -> float:
    """Say how much memory a process and its children use, in MiB; what they share counts each time."""
    total = 0
    with contextlib.suppress(OSError):
        total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += int(resident(int(child)) * (1 << 20))
    return total / (1 << 20)


@contextlib.contextmanager
def running(arguments: list[str]) -> Iterator[tuple[int, float]]:
    """Start a server; give its process and the seconds it took to answer."""
    port = int(re.findall(r"\b(\d{4,5})\b", " ".join(arguments))[0])
    path = os.pathsep.join([str(PACKAGES), str(HERE)])
    began = time.perf_counter()
    process = subprocess.Popen(arguments, cwd=HERE, env={**os.environ, "PYTHONPATH": path})
    try:
        while not answers(port):
            if process.poll() is not None or time.perf_counter() - began > 30:
                raise RuntimeError(f"{' '.join(arguments)} does not serve")
            time.sleep(0.005)
        yield process.pid, time.perf_counter() - began
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wrk(port: int, connections: int, seconds: int) -> tuple[float, float, float, int]:
    """Run wrk: requests a second, median and 99th percentile of latency in ms, failures."""
    load = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{port}/"]
    text = subprocess.run(load, check=True, capture_output=True, text=True).stdout
    units = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}

    def latency(percent: str) -> float:
        found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s|m)", text)
        return float(found[1]) * units[found[2]] if found else float("nan")

    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    wrong = sum(int(number) for number in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    wrong += sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    return float(rate[1]) if rate else 0.0, latency("50"), latency("99"), wrong


def install(python: str) -> list[str]:
    """Install the peers, one by one; give those there are."""
    found = []
    for name, package in {**PEERS, "flask": FLASK}.items():
        pip = [python, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(PACKAGES), package]
        if (PACKAGES / name).is_dir() or subprocess.run(pip, check=False).returncode == 0:
            found.append(name)
        else:
            print(f"{package} does not install here, and is left out", file=sys.stderr)
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=str(REPOSITORY / ".venv/bin/python"), help="interpreter")
    parser.add_argument("--app", action="append", choices=APPS, help="this one only (may be repeated)")
    parser.add_argument("--connections", type=int, default=64, help="of wrk (%(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="of a run (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server (%(default)s)")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing (Debian: apt-get install wrk)")
    servers = ["roving", *(name for name in install(options.python) if name in PEERS)]
    workers = len(os.sched_getaffinity(0))
    port = 18000
    about = f"{options.rounds} rounds of {options.seconds} s, {workers} processors"
    print(f"{options.connections} connections, {about}\n")
    columns = ["application", "server", "requests/s", "ratio", "p50 ms", "p99 ms", "errors", "MiB", "start s"]
    print("|", " | ".join(columns), "|\n|---|---|" + "---:|" * 7)
    for name in options.app or ["hello", "flask"]:
        all_of = {server: Series() for server in servers}
        for _ in range(options.rounds):
            for server, series in all_of.items():
                port += 1
                arguments = command(server, options.python, APPS[name], port, workers, options.connections)
                with running(arguments) as (pid, start):
                    wrk(port, options.connections, 1)
                    rate, p50, p99, errors = wrk(port, options.connections, options.seconds)
                    series.samples.append(Sample(rate, p50, p99, errors, resident(pid), start))
        ours = [sample.rate for sample in all_of["roving"].samples]
        for server, series in all_of.items():
            theirs = [sample.rate for sample in series.samples]
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True) if b)
            errors = sum(sample.errors for sample in series.samples)
            figures = [
                f"{series.median('rate'):,.0f}",
                f"{ratio:.2f}",
                f"{series.median('p50'):.2f}",
                f"{series.median('p99'):.2f}",
                str(errors),
                f"{series.median('memory'):.0f}",
                f"{series.median('start'):.2f}",
            ]
            print("|", " | ".join([name, server, *figures]), "|", flush=True)


if __name__ == "__main__":
    main()
