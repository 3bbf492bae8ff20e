"""roving.dump."""

import linecache

from roving._roving import _dump, stats


def dump() -> str:
    """Describe every fiber that has started and not ended: its state, what it waits for, and its stack.

    Those that have not started are counted: there is nothing to tell of them yet.

    The text is for people. All threads that run Python code stand still for the moment it takes to look.

    >>> print(roving.dump())
    """
    parts = []
    for fiber, state, why, calls in _dump():
        name = f" {fiber.name!r}" if fiber.name else ""
        waits = f" in {why}" if state == "parked" else ""
        lines = [f"fiber {fiber.id}{name}, {state}{waits}:"]
        for code, line in reversed(calls):
            lines.append(f'  File "{code.co_filename}", line {line}, in {code.co_qualname}')
            text = linecache.getline(code.co_filename, line).strip() if line else ""
            if text:
                lines.append(f"    {text}")
        parts.append("\n".join(lines))
    if unstarted := max(stats().get("fibers", 0) - len(parts), 0):
        parts.append(f"{unstarted} {'fiber' if unstarted == 1 else 'fibers'} not started yet")
    return "\n\n".join(parts) + "\n" if parts else "no fibers\n"
