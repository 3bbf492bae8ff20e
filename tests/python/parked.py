"""Waiting until fibers wait: what a test does to them next then meets them there."""

import time
from typing import Any

import roving
from roving._roving import _dump


def until_parked(*fibers: roving.Fiber[Any]) -> None:
    """Return once all of them are parked."""
    wanted = {fiber.id for fiber in fibers}
    end = time.monotonic() + 20
    while wanted - {fiber.id for fiber, state, _, _ in _dump() if state == "parked"}:
        assert time.monotonic() < end, "they never waited"
        roving.sleep(0.0005)
