"""What is logged of calls that block."""

import linecache
import logging

from roving._roving import _patches, _seams

_logger = logging.getLogger("roving")

_UNPATCHED = (
    " Nothing is patched here: roving.patch.all(), or `roving run`, has calls of the standard library park."
)


def report(stack: list[str], seconds: float) -> None:
    """Log that a call blocked its worker for so long: the last of `stack`, each "file:line in function"."""
    where, _, function = stack[-1].rpartition(" in ")
    file, _, line = where.rpartition(":")
    text = linecache.getline(file, int(line)).strip()
    patched = any(part[-1] for part in [*_patches(), *_seams()])
    _logger.warning(
        "a call in %s has blocked its worker for %.1f s%s; fibers that started on it wait meanwhile. "
        "roving.blocking(function, ...) keeps what cannot park off the workers.%s Said once of each place.\n"
        "%s",
        function,
        seconds,
        f": {text}" if text else "",
        "" if patched else _UNPATCHED,
        "\n".join(f"  {call}" for call in stack),
    )
