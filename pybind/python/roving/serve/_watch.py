"""Which files an application is made of, and whether they have changed.

They are looked at, not subscribed to: that is the same in containers, on network file systems and with
editors that replace files, and a thousand of them take some milliseconds.
"""

import fnmatch
import glob
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["Watch", "module_files", "stamp_of"]

# Between two looks; and while something changes, until it is as it was at the look before.
_PAUSE = 0.25
_SETTLING = 0.05

_Stamp = tuple[int, ...] | None


def module_files() -> set[str]:
    """Name the source files of all modules there are, without those of the standard library."""
    paths = sysconfig.get_paths()
    library = tuple(paths[name] + os.sep for name in ("stdlib", "platstdlib"))
    packages = tuple(paths[name] + os.sep for name in ("purelib", "platlib"))
    found = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not os.path.isabs(file):
            file = os.path.abspath(file) if isinstance(file, str) else ""
        if file and (not file.startswith(library) or file.startswith(packages)):
            found.add(file)
    return found


def stamp_of(path: str) -> _Stamp:
    """Give what of a file is other once it has changed: time, size and inode; None when it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class Watch:
    """Looks at files from time to time."""

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        """Look at the files of modules, and at those included: files, folders, patterns; not at those."""
        self._include = [os.path.abspath(path) for path in include]
        self._exclude = [*exclude]
        self._more: set[str] = set()
        self._stamps: dict[str, _Stamp] = {}
        self._next = 0.0
        self.look()

    def add(self, stamps: Mapping[str, Sequence[int] | None]) -> None:
        """Look at these, too, which were like that when somebody looked."""
        for path, stamp in stamps.items():
            if self._wanted(path):
                self._more.add(path)
                self._stamps.setdefault(path, None if stamp is None else tuple(stamp))

    def _included(self) -> Iterator[str]:
        for path in self._include:
            if os.path.isdir(path):
                for folder, _, names in os.walk(path):
                    yield from (os.path.join(folder, name) for name in names)
            elif glob.has_magic(path):
                yield from glob.iglob(path, recursive=True)
            else:
                yield path

    def _wanted(self, path: str) -> bool:
        names = (path, os.path.relpath(path), os.path.basename(path))
        return not any(fnmatch.fnmatch(name, pattern) for pattern in self._exclude for name in names)

    def look(self) -> list[str]:
        """Look at all of them; name those that are not as they were."""
        included = set(filter(self._wanted, self._included()))
        files = included | self._more | set(filter(self._wanted, module_files()))
        stamps = {path: stamp_of(path) for path in files}
        # A module that was imported since the last look is as it was imported, as far as anybody can tell; a
        # file that is new where all are included is a change.
        changed = [
            path
            for path, stamp in stamps.items()
            if (path in self._stamps or (self._stamps and path in included))
            and self._stamps.get(path) != stamp
        ]
        changed += [path for path in self._stamps if path not in stamps]
        self._stamps = stamps
        self._next = time.monotonic() + _PAUSE
        return sorted(changed)

    def left(self) -> float:
        """Say for how long not to look again, in seconds."""
        return max(self._next - time.monotonic(), 0.0)

    def changed(self, pause: Callable[[float], bool]) -> list[str]:
        """Look, if it is time to; name what has changed, once nothing changes any more.

        `pause` waits for so many seconds, and says whether to go on.
        """
        if self.left():
            return []
        found = set(self.look())
        while found and pause(_SETTLING):
            more = self.look()
            if not more:
                break
            found.update(more)
        return sorted(found)
