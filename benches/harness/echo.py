"""TCP and TLS echo: a server a peer and one client for all of them, in processes of their own."""

import json
import subprocess
import time

from .measure import Sampler
from .processes import Failed, Program, cpu_seconds, start

CONNECTIONS = 64
SIZE = 100


def client(command: list[str], port: int, cpus: list[int], seconds: float) -> dict[str, float]:
    """Load the server at `port` and return what the client counted."""
    if len(command) == 1:
        command = [*command, "echo-client"]
    arguments = [str(port), "--seconds", str(seconds)]
    arguments += ["--connections", str(CONNECTIONS), "--size", str(SIZE)]
    process = start(command + arguments, cpus, subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=2 * seconds + 20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Failed("gave its client no answer") from None
    if process.returncode != 0:
        said = err.decode(errors="replace").strip().splitlines()
        raise Failed(said[-1] if said else f"client status {process.returncode}")
    traffic: dict[str, float] = json.loads(out)
    return traffic


def sampler(server: list[str], client_command: list[str], cpus: list[list[int]], seconds: float) -> Sampler:
    """Return what takes one sample: a fresh server, `seconds` of load, the server's processor time."""
    server_cpus, client_cpus = cpus

    def sample() -> dict[str, float]:
        program = Program(server, server_cpus)
        try:
            port = int(program.answer(limit=20)["port"])
            before, begin = cpu_seconds(program.pid()), time.monotonic()
            traffic = client(client_command, port, client_cpus, seconds)
            used, passed = cpu_seconds(program.pid()) - before, time.monotonic() - begin
        finally:
            program.stop()
        # The client warms up before it counts, so the processor time is for more messages than it says.
        messages = traffic["ops"] * passed / seconds
        traffic["server_cpu_ns"] = used / messages * 1e9 if messages else 0.0
        return traffic

    return sample


def placement(workers: int, cpus: list[int]) -> list[list[int]]:
    """Where server and client run: apart where the server has one worker, else all over."""
    if workers == 1 and len(cpus) > 1:
        return [cpus[-1:], cpus[:-1]]
    return [cpus, cpus]
