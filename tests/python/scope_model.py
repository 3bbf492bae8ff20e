"""What scopes, timeouts, shields and cancellation do, in plain Python that knows no fibers.

A simulation: each fiber is a generator that interprets its program, with a stack of blocks and a stack of
what is being handled, by the rules as the code beside `Account` states them; it yields until when it waits,
and time goes to the first of those moments once nobody can go on.
"""

import contextlib
import functools
import random
from collections.abc import Callable, Generator, Iterator
from typing import Any

type Program = list[tuple[Any, ...]]
type Run = Generator[float | None]
type Log = dict[tuple[int, ...], list[tuple[float, str]]]

NEVER = float("inf")


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

    def __init__(
        self, met: BaseException | None, deadline: float | None = None, shield: bool = False
    ) -> None:
        """Enter it while `met` is being handled."""
        self.met = met
        self.deadline = NEVER if deadline is None else deadline
        self.shield = shield
        self.cancelled = False
        self.children: list[_Fiber] = []
        self.errors: list[BaseException] = []

    def cancel(self) -> None:
        """Cancel it, and its fibers, as a scope does."""
        self.cancelled = True
        for child in self.children:
            child.fiber.cancelled = True


class World:
    """Fibers, and the time."""

    def __init__(self, seed: int) -> None:
        """Begin at 0. Who goes on first, of those who can, is a matter of chance, and must not matter."""
        self.chance = random.Random(seed)
        self.now = 0.0
        self.fibers: list[_Fiber] = []
        self.log: Log = {}

    def run(self, program: Program) -> Log:
        """Run a program to the end; tell what each fiber noted, and when."""
        _Fiber(self, (), program, None)
        while self.fibers:
            self.chance.shuffle(self.fibers)
            moved = False
            for fiber in list(self.fibers):
                moved |= fiber.go_on()
            if moved:
                continue
            settling = [fiber for fiber in self.fibers if fiber.settling]
            for fiber in settling:
                fiber.settling = False
            if not settling:
                self.now = min(fiber.until for fiber in self.fibers)
                assert self.now != NEVER, "the model waits for ever"
        return self.log


class _Fiber:
    """A fiber of the model."""

    def __init__(self, world: World, path: tuple[int, ...], program: Program, scope: Block | None) -> None:
        """Be about to run a program."""
        self.world = world
        self.path = path
        self.log = world.log[path] = []
        self.scope = scope
        self.fiber = Block(None)
        self.blocks = [self.fiber]
        self.scopes: list[Block] = []
        self.handled: list[BaseException] = []
        self.done = False
        self.settling = False
        self.spawned = 0
        # What it waits for: a moment, and whether it would go on now.
        self.until = world.now
        self.ready: Callable[[], bool] = lambda: True
        self.steps = self.whole(program)
        world.fibers.append(self)

    def go_on(self) -> bool:
        """Take a step if it can."""
        if not (self.until <= self.world.now or self.ready()):
            return False
        try:
            until = next(self.steps)
            self.until = NEVER if until is None else until
        except StopIteration:
            self.done = True
            self.world.fibers.remove(self)
        return True

    def whole(self, program: Program) -> Run:
        """Run the program, and end."""
        try:
            yield from self.run(program)
        except BaseException as error:
            self.note(f"ended with {name(error)}")
            if self.scope is not None and not isinstance(error, MCancelled):
                self.scope.errors.append(error)
                self.scope.cancel()

    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.done

    def note(self, text: str) -> None:
        """Log it."""
        self.log.append((self.world.now, text))

    def run(self, program: Program) -> Run:
        """Run it here."""
        for statement in program:
            yield from getattr(self, statement[0].replace(" ", "_") + "_")(*statement[1:])

    def met(self) -> BaseException | None:
        """Find the Cancelled being handled, or during whose handling came up what is."""
        error = self.handled[-1] if self.handled else None
        while error is not None and not (isinstance(error, MCancelled) and not error.absorbed):
            error = error.__context__
        return error

    def due(self, block: Block) -> bool:
        """Whether it is to be left."""
        return block.cancelled or block.deadline <= self.world.now

    def verdict(self) -> tuple[Block | None, float]:
        """Say which block is to be left, or else when to look again."""
        leave, any_due, limits, held_limits = None, False, [NEVER], [NEVER]
        for block in reversed(self.blocks):
            counts = block.met is self.met()
            if self.due(block):
                any_due = True
                leave = block if counts else leave
            else:
                limits.append(block.deadline)
                if counts:
                    held_limits.append(block.deadline)
            if block.shield:
                break
        return leave, min(held_limits if any_due else limits)

    def wait(self, until: float, over: Callable[[], bool]) -> Run:
        """Wait as `block` does: until then, or until it is over."""
        while True:
            leave, limit = self.verdict()
            if leave is not None:
                raise MCancelled(leave)
            if over() or until <= self.world.now:
                return
            self.ready = functools.partial(self.is_poked, over, (leave, limit))
            yield min(until, limit)

    def settle(self) -> Run:
        """Wait, shielded, until all others have parked."""
        self.settling = True
        self.ready = self.has_settled
        yield None

    def has_settled(self) -> bool:
        """Whether they have."""
        return not self.settling

    def is_poked(self, over: Callable[[], bool], before: tuple[Block | None, float]) -> bool:
        """Whether there is something new to look at."""
        return over() or self.verdict() != before

    def sleep_(self, seconds: float) -> Run:
        yield from self.wait(self.world.now + seconds, lambda: False)
        self.note("slept")

    def park_(self) -> Run:
        yield self.world.now
        leave, _ = self.verdict()
        if leave is not None:
            raise MCancelled(leave)
        self.note("parked")

    def cancel_the_fiber_(self) -> Run:
        self.fiber.cancelled = True
        yield from ()

    def cancel_a_scope_(self, which: int) -> Run:
        if self.scopes:
            self.scopes[which % len(self.scopes)].cancel()
        yield from ()

    def raise_(self) -> Run:
        raise ValueError
        yield

    def spawn_(self, seconds: float, program: Program) -> Run:
        # One that is cancelled as it is spawned may have started, or not: it is anybody's guess.
        if self.scopes and not self.scopes[-1].cancelled:
            scope = self.scopes[-1]
            self.spawned += 1
            child = _Fiber(self.world, (*self.path, self.spawned), [("sleep", seconds), *program], scope)
            scope.children.append(child)
            yield from self.settle()

    @contextlib.contextmanager
    def inside(self, limit: float | None = None, shield: bool = False) -> Iterator[Block]:
        """Enter a block, and leave it."""
        deadline = None if limit is None else self.world.now + limit
        block = Block(self.met(), deadline, shield)
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

    def move_on_(self, limit: float | None, program: Program) -> Run:
        expired = False
        with self.inside(limit) as block:
            try:
                yield from self.run(program)
            except MCancelled as error:
                if not self.own(error, block):
                    raise
                expired = True
        self.note(f"moved on, {expired}")

    def timeout_(self, limit: float | None, program: Program) -> Run:
        with self.inside(limit) as block:
            try:
                yield from self.run(program)
            except MCancelled as error:
                if not self.own(error, block):
                    raise
                raise MTimeout from None

    def join_all(self, block: Block, patient: bool) -> Generator[float | None, None, BaseException | None]:
        """Wait for all children; give back what came in between."""
        interrupted: BaseException | None = None
        for child in block.children:
            while not child.done:
                if patient:
                    try:
                        yield from self.wait(NEVER, child.is_done)
                    except MCancelled as error:
                        patient = False
                        interrupted = error
                        block.cancel()
                else:
                    self.ready = child.is_done
                    yield None
        return interrupted

    def scope_(self, program: Program) -> Run:
        with self.inside() as block:
            self.scopes.append(block)
            try:
                yield from self.run(program)
            except BaseException as error:
                self.scopes.pop()
                own = self.own(error, block)
                block.cancel()
                yield from self.join_all(block, False)
                if block.errors or not isinstance(error, MCancelled):
                    raise MGroup from None
                if not own:
                    raise
                return
            self.scopes.pop()
            if block.cancelled:
                yield from self.settle()
        interrupted = yield from self.join_all(block, True)
        if block.errors:
            raise MGroup
        if interrupted is not None:
            raise interrupted

    def shield_(self, program: Program) -> Run:
        with self.inside(shield=True):
            yield from self.run(program)

    def while_handling(self, error: BaseException, run: Generator[float | None, None, Any]) -> Run:
        """Run while it is being handled."""
        self.handled.append(error)
        try:
            yield from run
        finally:
            self.handled.pop()

    def except_(self, program: Program, handler: Program) -> Run:
        try:
            yield from self.run(program)
        except BaseException as error:
            self.note(name(error))
            yield from self.while_handling(error, self.run(handler))

    def finally_(self, program: Program, cleanup: Program) -> Run:
        try:
            yield from self.run(program)
        except BaseException as error:
            yield from self.while_handling(error, self.run(cleanup))
            raise
        yield from self.run(cleanup)
