"""What is logged of calls that block."""

import linecache
import logging

_logger = logging.getLogger("roving")


def report(stack: list[str], seconds: float) -> None:
    """Log that a call blocked its worker for so long: the last of `stack`, each "file:line in function"."""
    where, _, function = stack[-1].rpartition(" in ")
    file, _, line = where.rpartition(":")
    text = linecache.getline(file, int(line)).strip()
    _logger.warning(
        "a call in %s has blocked its worker for %.1f s%s; fibers that started on it wait meanwhile. "
        "roving.blocking(function, ...) keeps what cannot park off the workers. Said once of each place.\n%s",
        function,
        seconds,
        f": {text}" if text else "",
        "\n".join(f"  {call}" for call in stack),
    )
