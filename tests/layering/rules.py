"""The layering of the repository, as rules that give back their violations as readable lines."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from rust_source import RustPath, Token, module_of, paths, tokenize

# Lowest first: a room may name the rooms before it, and itself. The room's layer (L0 to L8) is its index.
ROOMS = ("loom", "context", "stack", "fiber", "scheduler", "reactor", "sync", "net", "runtime")

# Dangerous knowledge and the one room that may have it. A trailing `*` matches the rest of a crate's name.
OWNERS = {
    ("corosensei",): "context",
    ("mio",): "reactor",
    ("parking_lot*",): "loom",
    ("crossbeam*",): "loom",
    ("loom",): "loom",
    ("std", "sync"): "loom",
    ("core", "sync"): "loom",
    ("alloc", "sync"): "loom",
}
# What a test may use past the shim: it runs on plain threads, outside the protocol it checks.
OPEN_TO_TESTS = {("loom",), ("std", "sync"), ("core", "sync"), ("alloc", "sync")}

_PYTHON_NAME = re.compile(r"pyo3|python|^_?Py([A-Z_]|$)")
_PYTHON_CRATE = re.compile(r"pyo3|python|^py-|maturin")

WALL_CLOCK = {"SystemTime", "UNIX_EPOCH", "CLOCK_REALTIME", "gettimeofday"}
# It writes a Date field.
TELLS_THE_TIME = "http/src/strict/answer.rs"

LONGEST_FILE = 600
SOURCE_SUFFIXES = {".rs", ".py", ".pyi", ".c", ".h", ".sh", ".awk"}


def rust_files(source_root: Path) -> list[Path]:
    """List the Rust files of a crate in a stable order."""
    return sorted(source_root.rglob("*.rs"))


def is_test(file: Path, source_root: Path) -> bool:
    """Tell a file that is compiled for tests alone, by its name or folder."""
    relative = file.relative_to(source_root)
    return (
        relative.stem in ("test", "tests")
        or relative.stem.startswith(("test_", "loom_"))
        or not {"test", "tests"}.isdisjoint(relative.parts[:-1])
    )


def from_root(path: RustPath) -> tuple[str, ...] | None:
    """Resolve a path of this crate to its segments below the root; None for what begins elsewhere."""
    segments = path.segments
    if segments[0] == "self":
        segments = segments[1:]
    if segments[:1] == ("crate",):
        return segments[1:]
    up = 0
    while segments[up : up + 1] == ("super",):
        up += 1
    if up == 0 or up > len(path.module):
        return None
    return path.module[: len(path.module) - up] + segments[up:]


def room_violations(source_root: Path) -> Iterator[str]:
    """Say where a room names a higher room, or reaches into the crate past the rooms."""
    for file in rust_files(source_root):
        room = _room(file, source_root)
        if room is None:
            continue
        if room not in ROOMS:
            yield f"{file}: `{room}` is no room of the layering table"
            continue
        for path in paths(tokenize(file.read_text()), module_of(file, source_root)):
            target = from_root(path)
            if target is None or (not target and not path.imported):
                continue
            # Names re-exported by lib.rs would hide which room is meant, a glob all of them.
            if not target or target[0] not in ROOMS:
                yield f"{file}:{path.line}: `{path}` does not name the room it takes from"
            elif ROOMS.index(target[0]) > ROOMS.index(room):
                yield f"{file}:{path.line}: `{path}`: `{room}` is below `{target[0]}`"


def owner_violations(source_root: Path) -> Iterator[str]:
    """Say where a room names a crate, or a part of std, that is another room's to know."""
    for file in rust_files(source_root):
        room = _room(file, source_root)
        test = is_test(file, source_root)
        for path in paths(tokenize(file.read_text()), module_of(file, source_root)):
            for restricted, owner in OWNERS.items():
                if room == owner or (test and restricted in OPEN_TO_TESTS):
                    continue
                if _names(path, restricted):
                    yield f"{file}:{path.line}: `{path}`: only `{owner}` may name it"


def _room(file: Path, source_root: Path) -> str | None:
    """Name the room a file belongs to; None for lib.rs."""
    module = module_of(file, source_root)
    return module[0] if module else None


def _names(path: RustPath, restricted: tuple[str, ...]) -> bool:
    """Tell whether a path leads to or into what is restricted."""
    return len(path.segments) >= len(restricted) and all(map(_matches, path.segments, restricted))


def _matches(segment: str, pattern: str) -> bool:
    return segment.startswith(pattern[:-1]) if pattern.endswith("*") else segment == pattern


def smuggling_violations(source_root: Path) -> Iterator[str]:
    """Say where a `use` gives std itself another name, which would hide what is taken from it."""
    for file in rust_files(source_root):
        for path in paths(tokenize(file.read_text()), module_of(file, source_root)):
            if not path.imported or path.segments[0] not in ("std", "core", "alloc"):
                continue
            if path.segments[1:] in ((), ("self",), ("*",)):
                yield f"{file}:{path.line}: `use {path}` hides what is taken from it"


def python_violations(crate: Path) -> Iterator[str]:
    """Say where a crate that knows no Python names it, in code or among its dependencies."""
    for file in rust_files(crate / "src"):
        for token in tokenize(file.read_text()):
            if token.kind == "ident" and _PYTHON_NAME.search(token.text):
                yield f"{file}:{token.line}: `{token.text}`"
    for name in _dependencies(tomllib.loads((crate / "Cargo.toml").read_text())):
        if _PYTHON_CRATE.search(name):
            yield f"{crate / 'Cargo.toml'}: depends on `{name}`"


def name_violations(source_root: Path, crate: str, allowed: tuple[Path, ...]) -> Iterator[str]:
    """Say where code imports from a crate, or names a path into it, that only some files may know."""
    for file in rust_files(source_root):
        if file in allowed:
            continue
        for path in paths(tokenize(file.read_text()), module_of(file, source_root)):
            if path.segments[0] == crate and len(path.segments) > 1:
                yield f"{file}:{path.line}: `{path}`"


def wall_clock_violations(source_root: Path) -> Iterator[str]:
    """Say where code reads the time of day, which may jump: whatever waits goes by the monotonic clock."""
    for file in rust_files(source_root):
        if file.as_posix().endswith(TELLS_THE_TIME):
            continue
        for token in tokenize(file.read_text()):
            if token.kind == "ident" and token.text in WALL_CLOCK:
                yield f"{file}:{token.line}: `{token.text}` may jump"


def _dependencies(manifest: dict[str, object]) -> Iterator[str]:
    """Yield the crates of every dependency table, below `target` too; renamed ones by both names."""
    for key, table in manifest.items():
        if not isinstance(table, dict):
            continue
        if not key.endswith("dependencies"):
            yield from _dependencies(table)
            continue
        for name, wanted in table.items():
            yield name
            if isinstance(wanted, dict) and "package" in wanted:
                yield wanted["package"]


def lib_violations(lib: Path) -> Iterator[str]:
    """Say what of lib.rs is more than attributes, modules and re-exports."""
    item: list[Token] = []
    depth = 0
    for token in tokenize(lib.read_text()):
        if token.text in "([{":
            depth += 1
        elif token.text in ")]}":
            depth -= 1
        item.append(token)
        attribute_ends = token.text == "]" and item[0].text == "#"
        if depth == 0 and (token.text in ";}" or attribute_ends):
            # `pub use x::{a};` closes a brace before its end.
            if token.text == "}" and any(part.text == "use" for part in item):
                continue
            if not _ITEM.match(" ".join(part.text for part in item)):
                yield f"{lib}:{item[0].line}: more than a module or a re-export"
            item = []
    if item:
        yield f"{lib}:{item[0].line}: more than a module or a re-export"


_ITEM = re.compile(r"# (! )?\[ .* \]$|(pub (\( .* \) )?)?mod \w+ ;$|pub (\( .* \) )?use [^;]* ;$")


def length_violations(root: Path, folders: tuple[str, ...], allowed: dict[str, str]) -> Iterator[str]:
    """Say which source files are too long without a reason, and which reasons are no longer needed."""
    long = {}
    for folder in folders:
        for file in sorted((root / folder).rglob("*")):
            if file.is_file() and (file.suffix in SOURCE_SUFFIXES or folder == "scripts"):
                lines = file.read_bytes().count(b"\n")
                if lines > LONGEST_FILE:
                    long[file.relative_to(root).as_posix()] = lines
    for name, lines in long.items():
        if name not in allowed:
            yield f"{name}: {lines} lines; split it by noun, or give the reason in ALLOWED_LENGTH"
    for name in allowed:
        if name not in long:
            yield f"{name}: allowed to be long, and is not: take it off the list"
