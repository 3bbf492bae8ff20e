"""Random programs of scopes and their fibers, timeouts, shields, clean-up and cancellation, against a model.

The model (`scope_model.py`) knows no fibers. roving runs the programs by `roving.testing.run`, in an order
drawn by a seed and by a clock that stands. What each fiber notes on its way, and when, must be equal.

No two things happen at the same moment but for their consequences: durations are different powers of two. So
the order drawn must not matter, neither in roving nor in the model, which draws one too.
"""

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
import roving
from roving import testing
from scope_model import Log, Program, World, name

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

# In the place of a duration that `timed` finds.
LATER = "later"
# As many different ones there are: their sum is a time the clock can tell to the nanosecond.
MOST = 29
LIMITS = st.sampled_from([0, None, LATER, LATER, LATER])
LEAVES = st.one_of(
    st.just(("park",)),
    st.just(("sleep", LATER)),
    st.just(("sleep", LATER)),
    st.just(("cancel the fiber",)),
    st.tuples(st.just("cancel a scope"), st.integers(0, 3)),
    st.just(("raise",)),
)


def blocks(programs: st.SearchStrategy[Program]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Make statements out of programs."""
    child = st.tuples(st.just("spawn"), st.just(LATER), programs)
    children = st.lists(child, min_size=1, max_size=3)
    family = st.tuples(children, programs).map(lambda parts: ("scope", parts[0] + parts[1]))
    return st.one_of(
        family,
        family,
        family,
        child,
        st.tuples(st.just("move on"), LIMITS, programs),
        st.tuples(st.just("timeout"), LIMITS, programs),
        st.tuples(st.just("scope"), programs),
        st.tuples(st.just("shield"), programs),
        st.tuples(st.just("except"), programs, programs),
        st.tuples(st.just("finally"), programs, programs),
    )


PROGRAMS: st.SearchStrategy[Program] = st.recursive(
    st.lists(LEAVES, max_size=4),
    lambda inner: st.lists(st.one_of(LEAVES, blocks(inner), blocks(inner)), min_size=1, max_size=4),
    max_leaves=30,
)


def timed(program: Any, durations: Iterator[int]) -> Any:
    """Put durations in."""
    if program == LATER:
        return next(durations)
    if isinstance(program, (list, tuple)):
        return type(program)([timed(part, durations) for part in program])
    return program


class _Real:
    """Runs a program in a fiber."""

    def __init__(self, log: Log, clock: testing.clock, path: tuple[int, ...] = ()) -> None:
        """Note nothing yet."""
        self.all = log
        self.log = log[path] = []
        self.clock = clock
        self.path = path
        self.scopes: list[roving.Scope] = []
        self.spawned = 0

    def whole(self, program: Program) -> None:
        """Run it in this fiber."""
        try:
            self.run(program)
        except BaseException as error:
            self.note(f"ended with {name(error)}")
            raise

    def note(self, text: str) -> None:
        """Log it."""
        self.log.append((self.clock.time(), text))

    def run(self, program: Program) -> None:
        """Run it here."""
        for statement in program:
            getattr(self, statement[0].replace(" ", "_") + "_")(*statement[1:])

    def settle(self) -> None:
        """Have children started, or ended: whether they had is seen by whether a scope waits for them."""
        with roving.shield():
            testing.wait_all_parked()

    def park_(self) -> None:
        roving.sleep(0)
        self.note("parked")

    def sleep_(self, seconds: float) -> None:
        roving.sleep(seconds)
        self.note("slept")

    def cancel_the_fiber_(self) -> None:
        fiber = roving.current()
        assert fiber is not None
        fiber.cancel()

    def cancel_a_scope_(self, which: int) -> None:
        if self.scopes:
            self.scopes[which % len(self.scopes)].cancel()

    def raise_(self) -> None:
        raise ValueError

    def spawn_(self, seconds: float, program: Program) -> None:
        if self.scopes and not self.scopes[-1].cancelled:
            self.spawned += 1
            child = _Real(self.all, self.clock, (*self.path, self.spawned))
            self.scopes[-1].spawn(child.whole, [("sleep", seconds), *program])
            self.settle()

    def move_on_(self, limit: float | None, program: Program) -> None:
        with roving.move_on_after(limit) as block:
            self.run(program)
        self.note(f"moved on, {block.expired}")

    def timeout_(self, limit: float | None, program: Program) -> None:
        with roving.timeout(limit):
            self.run(program)

    def scope_(self, program: Program) -> None:
        with roving.scope() as scope:
            self.scopes.append(scope)
            try:
                self.run(program)
            finally:
                self.scopes.pop()
            if scope.cancelled:
                self.settle()

    def shield_(self, program: Program) -> None:
        with roving.shield():
            self.run(program)

    def except_(self, program: Program, handler: Program) -> None:
        try:
            self.run(program)
        except BaseException as error:
            self.note(name(error))
            self.run(handler)

    def finally_(self, program: Program, cleanup: Program) -> None:
        try:
            self.run(program)
        finally:
            self.run(cleanup)


def real(program: Program) -> Log:
    """Run it in this fiber, and note how it ends."""
    log: Log = {}
    with testing.clock() as clock:
        try:
            _Real(log, clock).whole(program)
        except BaseException:
            # Of the first fiber it was noted.
            return log
    return log


def told(log: Log) -> Log:
    """Leave out what a child that was cancelled before its first step may note or not."""
    return {path: notes for path, notes in log.items() if path == () or notes_of_life(notes)}


def notes_of_life(notes: list[tuple[float, str]]) -> bool:
    """Whether it got past its first sleep."""
    return bool(notes) and notes[0][1] == "slept"


@pytest.fixture(scope="module", autouse=True)
def grace() -> Iterator[None]:
    """Let clean-up take its time: it is no part of the model."""
    roving.configure(cancel_grace=2.0**40)
    yield
    roving.configure(cancel_grace=5)


@settings(max_examples=int(os.environ.get("ROVING_EXAMPLES", "400")), deadline=None)
@given(PROGRAMS, st.integers(0, 2**32))
def test_programs(program: Program, seed: int) -> None:
    """The model and roving agree."""
    powers = [2**power for power in range(MOST)]
    random.Random(seed).shuffle(powers)
    assume(repr(program).count(LATER) <= MOST)
    program = timed(program, iter(powers))
    expected = told(World(seed).run(program))
    assert told(testing.run(real, program, seed=seed)) == expected
    assert told(World(seed + 1).run(program)) == expected
