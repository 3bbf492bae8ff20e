"""Each layering rule is able to fail, and does not fail on what only looks like a violation."""

from pathlib import Path

import pytest
import rules
from rust_source import paths, tokenize


def crate(folder: Path, **files: str) -> Path:
    """Write a source tree; `fiber__core` stands for fiber/core.rs."""
    for name, source in files.items():
        file = folder / (name.replace("__", "/") + ".rs")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return folder


def found_paths(source: str) -> list[str]:
    """List the paths of a source as they would be written."""
    return [str(path) for path in paths(tokenize(source), ("room",))]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("use a::b;", ["a::b"]),
        (
            "use a::{b::c, d as e, f::*, g::{self, h},};",
            ["a::b::c", "a::d", "a::f::*", "a::g::self", "a::g::h"],
        ),
        ("use ::a::b; use {c::d, e};", ["a::b", "c::d", "e"]),
        ("pub(crate) use a as _;", ["a"]),
        ("extern crate a;", ["a"]),
        ("fn f() -> impl ::a::B { return ::c::d::<E>(x::Y::new()) }", ["a::B", "c::d", "x::Y::new"]),
        ("Vec::<a::B>::new()", ["a::B"]),
        ("<T as a::B>::C::d()", ["a::B"]),
        ("fn f<'a>() -> impl Fn() + use<'a> { g::h() }", ["g::h"]),
        ("macro_rules! m { () => { $crate::a::b!() } }", ["crate::a::b"]),
        ("// a::b\n/* a::b /* c::d */ e::f */ g::h", ["g::h"]),
        ('x("a::b \\" c::d"); y(r#"a::b " "#, br"e::f", c"g::h"); z::w', ["z::w"]),
        (r"if c == '\'' || c == '\u{1F600}' || c == '\"' { a::b('x') } // \"", ["a::b"]),
        ("fn f<'a>(x: &'a c::D) { g('\"', e::F, \"\") }", ["c::D", "e::F"]),
        ("use r#mod::r#fn;", ["mod::fn"]),
    ],
)
def test_paths_are_found_and_text_is_not(source: str, expected: list[str]) -> None:
    """Comments and literals hold no paths; everything else does, however it is written."""
    assert found_paths(source) == expected


def test_lines_are_counted_through_comments_and_strings() -> None:
    """A report that names the wrong line sends its reader looking."""
    source = '/* one\n /* two */\n*/ let s = "four\nfive"; r"\n"; a::b'
    assert [path.line for path in paths(tokenize(source), ())] == [5]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("fiber__core", "use crate::scheduler::Worker;"),
        ("fiber__core", "use crate::{loom::sync::Arc, scheduler::{self as s}};"),
        ("fiber__mod", "use super::scheduler::Worker;"),
        ("fiber__core", "use super::super::scheduler;"),
        ("fiber__core", "use self::super::super::scheduler;"),
        ("fiber__core", "mod inner { mod deep { use super::super::super::super::scheduler; } }"),
        ("fiber__core", "fn f() { crate::scheduler::wake(); }"),
        ("fiber__core", "macro_rules! wake { () => { $crate::scheduler::wake() } }"),
        ("fiber__core", "type W = crate::scheduler::Worker;"),
        ("fiber__test", "use crate::scheduler::Worker;"),
        ("fiber__tests__join", "use crate::scheduler::Worker;"),
        ("fiber__core", "use crate::Runtime;"),
        ("fiber__core", "use crate::*;"),
        ("fiber__core", "use crate as root;"),
        ("fiber__mod", "use super::*;"),
        ("misc", "use crate::loom::sync::Arc;"),
    ],
)
def test_a_higher_room_is_found(tmp_path: Path, file: str, source: str) -> None:
    """No way of writing the path, and no kind of file, hides a step upwards."""
    assert len(list(rules.room_violations(crate(tmp_path, **{file: source})))) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("scheduler__worker", "use crate::{context::Context, fiber::{self, Core}, loom::*};"),
        ("scheduler__worker", "use super::queue; use super::super::fiber; use self::idle::Idle;"),
        ("scheduler__mod", "pub(crate) use worker::Worker; pub(in crate::scheduler) struct S;"),
        ("scheduler__test", "use super::*; use crate::fiber::Core;"),
        ("scheduler__worker", "mod inner { use super::super::queue; } pub(crate) mod more {}"),
        ("scheduler__worker", "/// [`crate::runtime::Builder`]\nfn f() {} // crate::net::Tcp"),
        ("fiber__core", "use std::runtime::x; use net::y; scheduler::z();"),
        ("lib", "mod fiber; pub use runtime::Runtime;"),
    ],
)
def test_lower_and_own_rooms_are_free(tmp_path: Path, file: str, source: str) -> None:
    """Downwards, sideways within the room, in documentation: all allowed."""
    assert list(rules.room_violations(crate(tmp_path, **{file: source}))) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("stack__mod", "use corosensei::stack::Stack;"),
        ("stack__test", "use corosensei::stack::Stack;"),
        ("net__tcp", "use mio::net::TcpStream;"),
        ("net__tcp", "fn f(s: &mut ::mio::net::TcpStream) {}"),
        ("fiber__core", "use std::sync::atomic::AtomicU8;"),
        ("fiber__core", "use std::{ptr, sync::{Arc, Mutex}};"),
        ("fiber__core", "use core::sync::atomic::fence;"),
        ("fiber__core", "static X: std::sync::Mutex<u8> = todo!();"),
        ("sync__mutex", "use parking_lot::Mutex;"),
        ("sync__mutex", "use parking_lot_core::park;"),
        ("scheduler__queue", "use crossbeam_deque::Worker;"),
        ("scheduler__queue", "extern crate crossbeam;"),
        ("scheduler__queue", "use loom::sync::Arc;"),
        ("lib", "pub use mio::Token;"),
    ],
)
def test_a_stranger_to_a_crate_is_found(tmp_path: Path, file: str, source: str) -> None:
    """Each restricted crate, outside its one room, is reported; tests are no exception for most."""
    assert list(rules.owner_violations(crate(tmp_path, **{file: source})))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("context__mod", "use corosensei::Coroutine;"),
        ("reactor__driver", "use mio::{Poll, Token};"),
        (
            "loom__real",
            "use std::sync::atomic::AtomicU8; use parking_lot::Mutex; use crossbeam_deque::Worker;",
        ),
        ("loom__mocked", "use loom::sync::Arc;"),
        ("fiber__core", "use crate::loom::sync::Arc; use std::cell::Cell;"),
        ("fiber__test", "use std::sync::mpsc;"),
        ("fiber__loom_join", "use loom::model; use std::sync::Arc;"),
        ("scheduler__tests__steal", "use std::sync::Barrier;"),
        ("scheduler__queue", "// std::sync::Mutex would deadlock here\nfn f() {}"),
    ],
)
def test_owners_and_tests_are_free(tmp_path: Path, file: str, source: str) -> None:
    """The owner may name its crate, and a test may use plain threads' tools."""
    assert list(rules.owner_violations(crate(tmp_path, **{file: source}))) == []


@pytest.mark.parametrize("source", ["use std as s;", "use std::*;", "use core::{self as c};", "use {alloc};"])
def test_a_renamed_std_is_found(tmp_path: Path, source: str) -> None:
    """Behind another name for std, std::sync would go unseen."""
    assert list(rules.smuggling_violations(crate(tmp_path, fiber__core=source)))


def test_parts_of_std_are_no_smuggling(tmp_path: Path) -> None:
    """A whole module of std is as visible as a name in it."""
    source = "use std::ptr; use std::collections::*; use std::io as stdio;"
    assert list(rules.smuggling_violations(crate(tmp_path, fiber__core=source))) == []


def python_crate(folder: Path, source: str = "", manifest: str = "") -> list[str]:
    """Write a crate and list where it names Python."""
    crate(folder / "src", lib=source)
    (folder / "Cargo.toml").write_text(manifest)
    return list(rules.python_violations(folder))


@pytest.mark.parametrize(
    "source",
    [
        "use pyo3_ffi::x;",
        "fn f(o: *mut PyObject) {}",
        "fn f() { _PyThreadState_GET() }",
        "fn run_python() {}",
    ],
)
def test_python_in_code_is_found(tmp_path: Path, source: str) -> None:
    """The C API, its bindings, and names that speak of Python."""
    assert len(python_crate(tmp_path, source)) == 1


@pytest.mark.parametrize(
    "manifest",
    [
        "[dependencies]\npyo3 = '0.30'",
        "[build-dependencies]\npyo3-build-config = '0.30'",
        "[target.'cfg(unix)'.dev-dependencies]\nroving-python = { path = '../pybind' }",
        "[dependencies]\nffi = { package = 'python3-sys', version = '1' }",
    ],
)
def test_python_in_dependencies_is_found(tmp_path: Path, manifest: str) -> None:
    """In every table of dependencies, and behind another name."""
    assert len(python_crate(tmp_path, manifest=manifest)) == 1


def test_python_in_prose_is_no_python(tmp_path: Path) -> None:
    """The core may say in a comment whom it serves."""
    source = '//! For Python.\nfn f() { "PyObject"; Pyramid::new(); copy_out(); }'
    assert python_crate(tmp_path, source, "[package]\nname = 'x'\n[dependencies]\nlibc = '0.2'") == []


@pytest.mark.parametrize(
    "source",
    [
        "fn f() {}",
        "const N: usize = 1;",
        "mod a { fn f() {} }",
        "use a::b;",
        "macro_rules! m { () => {} }",
        "pub struct S;",
        "impl S {}",
        "mod a; #[test] fn t() { let x = [1]; }",
        "thread_local! { static X: u8 = 1; }",
    ],
)
def test_logic_in_lib_is_found(tmp_path: Path, source: str) -> None:
    """Anything that is not a module or a re-export."""
    assert list(rules.lib_violations(crate(tmp_path, lib=source) / "lib.rs"))


def test_a_map_of_rooms_is_no_logic(tmp_path: Path) -> None:
    """What lib.rs is there for."""
    source = """
        //! Doc.
        #![cfg_attr(docsrs, feature(doc_cfg))]
        #![doc = include_str!("../README.md")]
        mod loom;
        #[cfg(unix)]
        pub mod net;
        pub(crate) mod fiber;
        #[doc(inline)]
        pub use fiber::{JoinHandle, options::{Options as FiberOptions}};
        pub(crate) use loom::*;
    """
    assert list(rules.lib_violations(crate(tmp_path, lib=source) / "lib.rs")) == []


@pytest.mark.parametrize(
    ("lines", "allowed", "reports"),
    [(600, {}, 0), (601, {}, 1), (601, {"src/a.rs": "a table"}, 0), (600, {"src/a.rs": "a table"}, 1)],
)
def test_long_files_and_stale_reasons_are_found(
    tmp_path: Path, lines: int, allowed: dict[str, str], reports: int
) -> None:
    """The list of exceptions can only hold what is one."""
    crate(tmp_path, src__a="\n" * lines)
    assert len(list(rules.length_violations(tmp_path, ("src", "absent"), allowed))) == reports


@pytest.mark.parametrize(
    ("source", "count"),
    [("fn f() { std::time::SystemTime::now(); }", 1), ("// SystemTime\nfn f() { Instant::now(); }", 0)],
)
def test_a_wall_clock_is_found(tmp_path: Path, source: str, count: int) -> None:
    """Code counts, comments do not."""
    (tmp_path / "lib.rs").write_text(source)
    assert len(list(rules.wall_clock_violations(tmp_path))) == count
