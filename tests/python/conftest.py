"""What holds for every test of the package."""

from collections.abc import Iterator

import pytest
import roving


@pytest.fixture(autouse=True)
def nobody_left() -> Iterator[None]:
    """No test leaves fibers to those after it: roving.run, for one, would wait for them."""
    yield
    left = [fiber for fiber in roving.fibers() if not fiber.wait(10)]
    assert not left, roving.dump()
