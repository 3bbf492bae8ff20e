"""The file with the number of the process that serves."""

import contextlib
import os

__all__ = ["remove", "write"]


def write(path: str) -> None:
    """Write our number there, in one step: whoever reads it finds the old one, or ours. Raises OSError."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from None


def remove(path: str) -> None:
    """Remove it, if the number in it is still ours."""
    with contextlib.suppress(OSError, ValueError):
        with open(path, encoding="ascii") as file:
            ours = int(file.read()) == os.getpid()
        if ours:
            os.unlink(path)
