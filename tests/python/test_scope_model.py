"""Random programs of scopes, timeouts, shields, clean-up and cancellation, against a model.

The model is plain Python and knows no fibers: it interprets the program with a stack of blocks and a stack of
what is being handled, by the rules as the code beside `Account` states them. What both note on their way must
be equal.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import roving

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

type Program = list[tuple[Any, ...]]

# A limit of time is over at once, or never: then the programs need no clock.
LIMITS = st.sampled_from([0, None])
LEAVES = st.one_of(
    st.just(("park",)),
    st.just(("park",)),
    st.just(("cancel the fiber",)),
    st.tuples(st.just("cancel a scope"), st.integers(0, 3)),
    st.just(("raise",)),
)


def blocks(programs: st.SearchStrategy[Program]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Make statements out of programs."""
    return st.one_of(
        st.tuples(st.just("move on"), LIMITS, programs),
        st.tuples(st.just("timeout"), LIMITS, programs),
        st.tuples(st.just("scope"), programs),
        st.tuples(st.just("shield"), programs),
        st.tuples(st.just("except"), programs, programs),
        st.tuples(st.just("finally"), programs, programs),
    )


PROGRAMS: st.SearchStrategy[Program] = st.recursive(
    st.lists(LEAVES, max_size=4),
    lambda inner: st.lists(st.one_of(LEAVES, blocks(inner)), max_size=4),
    max_leaves=25,
)


class _Real:
    """Runs a program in a fiber."""

    def __init__(self) -> None:
        """Note nothing yet."""
        self.log: list[str] = []
        self.scopes: list[roving.Scope] = []

    def run(self, program: Program) -> None:
        """Run it here."""
        for statement in program:
            getattr(self, statement[0].replace(" ", "_").strip("_") + "_")(*statement[1:])

    def park_(self) -> None:
        roving.sleep(0)
        self.log.append("parked")

    def cancel_the_fiber_(self) -> None:
        fiber = roving.current()
        assert fiber is not None
        fiber.cancel()

    def cancel_a_scope_(self, which: int) -> None:
        if self.scopes:
            self.scopes[which % len(self.scopes)].cancel()

    def raise_(self) -> None:
        raise ValueError

    def move_on_(self, limit: float | None, program: Program) -> None:
        with roving.move_on_after(limit) as block:
            self.run(program)
        self.log.append(f"moved on, {block.expired}")

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

    def shield_(self, program: Program) -> None:
        with roving.shield():
            self.run(program)

    def except_(self, program: Program, handler: Program) -> None:
        try:
            self.run(program)
        except BaseException as error:
            self.log.append(name(error))
            self.run(handler)

    def finally_(self, program: Program, cleanup: Program) -> None:
        try:
            self.run(program)
        finally:
            self.run(cleanup)


class MCancelled(BaseException):
    """Cancelled, in the model."""

    absorbed = False


class MTimeout(Exception):
    """TimeoutError, in the model."""


class MGroup(Exception):
    """ExceptionGroup, in the model."""


def name(error: BaseException) -> str:
    """Call the exceptions of the model and of roving alike."""
    names = {MCancelled: "Cancelled", MTimeout: "TimeoutError", MGroup: "ExceptionGroup"}
    return names.get(type(error), type(error).__name__)


class Block:
    """A block of the model."""

    def __init__(self, met: BaseException | None, due: bool = False, shield: bool = False) -> None:
        """Enter it while `met` is being handled."""
        self.met = met
        self.due = due
        self.shield = shield


class _Model(_Real):
    """Says what a program does."""

    def __init__(self) -> None:
        """Begin in a fiber that is not cancelled."""
        super().__init__()
        self.fiber = Block(None)
        self.blocks = [self.fiber]
        self.handled: list[BaseException] = []

    def met(self) -> BaseException | None:
        """Find the Cancelled being handled, or during whose handling came up what is."""
        error = self.handled[-1] if self.handled else None
        while error is not None and not (isinstance(error, MCancelled) and not error.absorbed):
            error = error.__context__
        return error

    def park_(self) -> None:
        leave = None
        for block in reversed(self.blocks):
            if block.due and block.met is self.met():
                leave = block
            if block.shield:
                break
        if leave is not None:
            raise MCancelled(leave)
        self.log.append("parked")

    def cancel_the_fiber_(self) -> None:
        self.fiber.due = True

    def cancel_a_scope_(self, which: int) -> None:
        if self.scopes:
            self.scopes[which % len(self.scopes)].due = True  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def inside(self, **kind: bool) -> Iterator[Block]:
        """Enter a block, and leave it."""
        block = Block(self.met(), **kind)
        self.blocks.append(block)
        try:
            yield block
        finally:
            self.blocks.remove(block)

    def own(self, error: BaseException, block: Block) -> bool:
        """Whether it is this block that is to be left."""
        if isinstance(error, MCancelled) and error.args[0] is block:
            error.absorbed = True
            return True
        return False

    def move_on_(self, limit: float | None, program: Program) -> None:
        expired = False
        with self.inside(due=limit == 0) as block:
            try:
                self.run(program)
            except MCancelled as error:
                if not self.own(error, block):
                    raise
                expired = True
        self.log.append(f"moved on, {expired}")

    def timeout_(self, limit: float | None, program: Program) -> None:
        with self.inside(due=limit == 0) as block:
            try:
                self.run(program)
            except MCancelled as error:
                if not self.own(error, block):
                    raise
                raise MTimeout from None

    def scope_(self, program: Program) -> None:
        with self.inside() as block:
            self.scopes.append(block)  # type: ignore[arg-type]
            try:
                self.run(program)
            except MCancelled as error:
                if not self.own(error, block):
                    raise
            except Exception:
                raise MGroup from None
            finally:
                self.scopes.pop()

    def shield_(self, program: Program) -> None:
        with self.inside(shield=True):
            self.run(program)

    def handling(self, error: BaseException, run: Callable[[], None]) -> None:
        """Run while it is being handled."""
        self.handled.append(error)
        try:
            run()
        finally:
            self.handled.pop()

    def except_(self, program: Program, handler: Program) -> None:
        try:
            self.run(program)
        except BaseException as error:
            self.log.append(name(error))
            self.handling(error, lambda: self.run(handler))

    def finally_(self, program: Program, cleanup: Program) -> None:
        try:
            self.run(program)
        except BaseException as error:
            self.handling(error, lambda: self.run(cleanup))
            raise
        self.run(cleanup)


def outcome(machine: _Real, program: Program) -> list[str]:
    """Run it, and note how it ends."""
    try:
        machine.run(program)
    except BaseException as error:
        machine.log.append(f"ended with {name(error)}")
    return machine.log


@settings(max_examples=400, deadline=None)
@given(PROGRAMS)
def test_programs(program: Program) -> None:
    """The model and roving agree."""
    expected = outcome(_Model(), program)
    assert roving.spawn(outcome, _Real(), program).join(20) == expected
