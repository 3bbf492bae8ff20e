"""roving.dump."""

import linecache

from roving._roving import _dump


def dump() -> str:
    """Describe every fiber that has started and not ended: its state, what it waits for, and its stack.

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
    return "\n\n".join(parts) + "\n" if parts else "no fibers\n"
