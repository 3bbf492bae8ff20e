"""What a server logs: requests that failed, and what applications write to `wsgi.errors`."""

import logging

__all__ = ["ErrorStream", "logger", "report"]

logger = logging.getLogger("roving.serve")


def report(request: str, why: BaseException | str) -> None:
    """Log that a request failed: the traceback of what it raised, or what is wrong with its response."""
    if isinstance(why, str):
        logger.error("%s: the application's response is wrong: %s", request, why)
    else:
        logger.error("%s: the application raised", request, exc_info=why)


class ErrorStream:
    """`wsgi.errors`: a text stream into the log."""

    def write(self, text: str) -> int:
        """Log some text, without the newline at its end."""
        line = text.removesuffix("\n")
        if line:
            logger.error("%s", line)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Log some lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing: nothing is kept."""
