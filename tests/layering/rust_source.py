"""Just enough of Rust's grammar to see which modules and crates a source file names.

Comments and literals are dropped by a real tokenizer, since a path in a doc comment is no import and a brace
in a string is no block. Paths are found wherever they stand: in `use` trees, in expressions and types, inside
macro bodies. Macros are not expanded, so a path that only comes into being by expansion goes unseen.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>//[^\n]*|/\*)
    | (?P<raw_string>[bc]?r(?P<hashes>\#*)".*?"(?P=hashes))
    | (?P<string>[bc]?"(?:\\.|[^"\\])*")
    | (?P<char>b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^'\\])')
    | (?P<lifetime>'[A-Za-z_]\w*)
    | (?P<ident>(?:r\#)?[^\W\d]\w*)
    | (?P<number>\d\w*)
    | (?P<punct>::|.)
    """,
    re.VERBOSE | re.DOTALL,
)
# Words that stand before a path and are no part of it. `crate`, `self`, `super` and `Self` begin one.
# fmt: off
_KEYWORDS = frozenset([
    "as", "async", "await", "break", "const", "continue", "dyn", "else", "enum", "extern", "fn", "for", "if",
    "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct",
    "trait", "type", "unsafe", "use", "where", "while", "yield",
])
# fmt: on
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class Token:
    """One token that is neither blank nor comment."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class RustPath:
    """A path as written, with where it stands.

    `module` is the module it is written in, below the crate's root; `imported` tells a leaf of a `use` tree,
    `renamed` a leaf with `as`. A glob's last segment is `*`.
    """

    segments: tuple[str, ...]
    line: int
    module: tuple[str, ...]
    imported: bool = False
    renamed: bool = False

    def __str__(self) -> str:
        """Give the path as it would be written in Rust."""
        return "::".join(self.segments)


def tokenize(source: str) -> list[Token]:
    """Split Rust source into tokens, leaving out blanks and comments."""
    tokens = []
    position, line = 0, 1
    while position < len(source):
        match = _TOKEN.match(source, position)
        assert match is not None, "the pattern ends with a catch-all"
        kind = match.lastgroup or ""
        if kind == "hashes":
            kind = "raw_string"
        end = match.end()
        if match.group() == "/*":
            end = _end_of_block_comment(source, position)
        elif kind not in ("space", "comment"):
            tokens.append(Token(kind, match.group().removeprefix("r#"), line))
        line += source.count("\n", position, end)
        position = end
    return tokens


def _end_of_block_comment(source: str, start: int) -> int:
    """Find where a block comment ends; they nest in Rust."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(source, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(source)


def module_of(file: Path, source_root: Path) -> tuple[str, ...]:
    """Name the module a file holds, as the folder layout has it."""
    *folders, name = file.relative_to(source_root).with_suffix("").parts
    return tuple(folders) if name in ("mod", "lib") else (*folders, name)


def paths(tokens: list[Token], file_module: tuple[str, ...]) -> Iterator[RustPath]:
    """Yield every path of two segments or more, and every leaf of every `use`."""
    blocks: list[str | None] = []  # open braces; the name where one opened an inline module
    i = 0
    while i < len(tokens):
        token = tokens[i]
        module = file_module + tuple(name for name in blocks if name)
        if token.text == "{" and token.kind == "punct":
            is_module = i >= 2 and tokens[i - 2].text == "mod" and tokens[i - 1].kind == "ident"
            blocks.append(tokens[i - 1].text if is_module else None)
        elif token.text == "}" and token.kind == "punct":
            if blocks:
                blocks.pop()
        elif token.kind == "ident" and token.text == "use" and _starts_tree(tokens, i + 1):
            leaves, i = _use_tree(tokens, i + 1, (), module)
            yield from leaves
            continue
        elif token.kind == "ident" and token.text == "crate" and i > 0 and tokens[i - 1].text == "extern":
            yield RustPath((tokens[i + 1].text,), token.line, module, imported=True)
        elif _starts_path(tokens, i):
            # After `<T as Trait>` or `Vec::<T>` this is the rest of a path: it names neither crate nor room.
            continued = token.text == "::" and i > 0 and tokens[i - 1].text == ">"
            first = i + 1 if token.text == "::" else i
            segments = [tokens[first].text]
            i = first + 1
            while i + 1 < len(tokens) and tokens[i].text == "::" and tokens[i + 1].kind == "ident":
                segments.append(tokens[i + 1].text)
                i += 2
            if len(segments) > 1 and not continued:
                yield RustPath(tuple(segments), token.line, module)
            continue
        i += 1


def _starts_tree(tokens: list[Token], i: int) -> bool:
    """Tell the keyword of an import from the `use<..>` that captures lifetimes."""
    return i < len(tokens) and (tokens[i].kind == "ident" or tokens[i].text in ("::", "{", "*"))


def _starts_path(tokens: list[Token], i: int) -> bool:
    """Tell whether a path begins here, at a name or at a `::`."""
    if tokens[i].kind == "ident":
        return tokens[i].text not in _KEYWORDS
    return tokens[i].text == "::" and i + 1 < len(tokens) and tokens[i + 1].kind == "ident"


def _use_tree(
    tokens: list[Token], i: int, stem: tuple[str, ...], module: tuple[str, ...]
) -> tuple[list[RustPath], int]:
    """Read one tree of a `use` from `i`; give its leaves and the index after it."""
    segments, line = stem, tokens[i].line
    while i < len(tokens):
        token = tokens[i]
        if token.text == "{":
            leaves: list[RustPath] = []
            i += 1
            while tokens[i].text != "}":
                below, i = _use_tree(tokens, i, segments, module)
                leaves += below
                if tokens[i].text == ",":
                    i += 1
            return leaves, i + 1
        if token.kind == "ident" and token.text == "as":
            return [RustPath(segments, line, module, imported=True, renamed=True)], i + 2
        if token.kind == "ident" or token.text == "*":
            segments = (*segments, token.text)
        elif token.text not in ("::", "$"):
            break
        i += 1
    return [RustPath(segments, line, module, imported=True)], i
