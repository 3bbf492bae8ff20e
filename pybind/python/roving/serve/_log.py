"""What a server logs: requests, what failed of them, and what applications write."""

import logging

__all__ = ["ErrorStream", "access", "ignored", "logger", "malformed", "report"]

logger = logging.getLogger("roving.serve")
_access = logging.getLogger("roving.serve.access")


def access(line: str, /) -> None:
    """Log a request."""
    _access.info("%s", line)


def _escaped(text: str) -> str:
    """Write down what a client sent: what is not printable, quotes and backslashes as escapes."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')


def malformed(host: str, why: str, untold: int, /) -> None:
    """Log that a client was refused for what it sent, and how many others were since the last such line."""
    others = f" ({untold} others since the last one that was logged)" if untold else ""
    logger.info("a request from %s was refused: %s%s", host or "-", _escaped(why), others)


def ignored(host: str, why: str, untold: int, /) -> None:
    """Log that a trusted proxy sent what makes no sense, and how many others did since the last line."""
    others = f" ({untold} others since the last one that was logged)" if untold else ""
    logger.warning("of a request from the proxy %s %s%s", host or "unix:", _escaped(why), others)


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
