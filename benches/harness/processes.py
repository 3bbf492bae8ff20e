"""The programs that are measured, each on processors of its own choosing, none waited for without limit."""

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path


class Failed(Exception):
    """A program gave no sample; the message says why."""


def start(command: list[str], cpus: Iterable[int], stderr: int) -> subprocess.Popen[bytes]:
    """Start a program that may use `cpus` only."""
    allowed = set(cpus)
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        # Safe: this program has one thread.
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )


class Program:
    """A program that answers lines with JSON lines. Started when first asked, and again after it ended."""

    def __init__(self, command: list[str], cpus: Iterable[int]) -> None:
        """Prepare to run `command` on these processors."""
        self.command = command
        self.cpus = sorted(cpus)
        self.process: subprocess.Popen[bytes] | None = None
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.unread = b""

    def ask(self, line: str, limit: float) -> dict[str, float]:
        """Send a line and return the answer to it."""
        if self.process is None:
            self.process = start(self.command, self.cpus, self.errors.fileno())
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self.failure("ended before it was asked") from None
        return self.answer(limit)

    def answer(self, limit: float) -> dict[str, float]:
        """Return the next line the program writes."""
        if self.process is None:
            self.process = start(self.command, self.cpus, self.errors.fileno())
        assert self.process.stdout is not None
        deadline = time.monotonic() + limit
        while b"\n" not in self.unread:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            if not readable:
                raise self.failure(f"gave no answer in {limit:.0f} s")
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                raise self.failure("ended in the middle")
            self.unread += chunk
        line, self.unread = self.unread.split(b"\n", 1)
        answer: dict[str, float] = json.loads(line)
        if "error" in answer:
            raise self.failure(str(answer["error"]))
        return answer

    def failure(self, why: str) -> Failed:
        """Make sure the program has ended, and say why it did not do."""
        process, self.process, self.unread = self.process, None, b""
        if process is not None:
            process.kill()
            status = process.wait()
            if status not in (0, 3, -9):
                why += f" (status {status})"
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        self.errors.seek(0)
        self.errors.truncate()
        return Failed(f"{why}: {said[-1]}" if said else why)

    def pid(self) -> int:
        """Return the process's number while it runs."""
        if self.process is None:
            raise Failed("does not run")
        return self.process.pid

    def stop(self) -> None:
        """End the program: it leaves when its standard input does."""
        process, self.process = self.process, None
        if process is None:
            return
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
