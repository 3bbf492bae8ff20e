//! Compiles the C shim against the headers, internal ones included, of the interpreter PyO3 builds for.

use std::path::PathBuf;
use std::process::Command;

const SHIM: [&str; 29] = [
    "buffered.c",
    "call.c",
    "callbacks.c",
    "calls.c",
    "check.c",
    "dump.c",
    "files.c",
    "frame.c",
    "gil.c",
    "hooks.c",
    "idents.c",
    "install.c",
    "io.c",
    "locks.c",
    "messages.c",
    "pipes.c",
    "preempt.c",
    "seams.c",
    "selects.c",
    "simplequeue.c",
    "sockets.c",
    "sqlite.c",
    "sqlite_find.c",
    "switch.c",
    "threads.c",
    "tls.c",
    "tls_state.c",
    "tracing.c",
    "worker.c",
];

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    let config = pyo3_build_config::get();
    let python = config
        .executable()
        .expect("roving's C shim needs an interpreter to ask for its headers: set PYO3_PYTHON");
    let include = include_path(python);
    let internal = include.join("internal").join("pycore_tstate.h");
    assert!(
        internal.is_file(),
        "{} is missing: roving needs the internal headers of {python}",
        internal.display()
    );
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rerun-if-changed={}", internal.display());
    println!("cargo::rerun-if-env-changed=PYO3_PYTHON");
    let mut build = cc::Build::new();
    build
        .include(&include)
        .include(include.join("internal"))
        .opt_level(2)
        .std("gnu11")
        .flag("-fexceptions")
        .flag("-fvisibility=hidden")
        .flag("-fno-strict-aliasing")
        .warnings(true)
        // The interpreter's own headers.
        .flag("-Wno-unused-parameter")
        .flag("-Wno-missing-field-initializers");
    if config
        .build_flags()
        .0
        .contains(&pyo3_build_config::BuildFlag::Py_GIL_DISABLED)
    {
        build.define("Py_GIL_DISABLED", "1");
    }
    if std::env::var_os("CARGO_FEATURE_FAULT_INJECTION").is_some() {
        build.define("RV_FAULT_INJECTION", None);
    }
    for file in SHIM {
        build.file(format!("shim/{file}"));
    }
    build.compile("roving_shim");
}

fn include_path(python: &str) -> PathBuf {
    let output = Command::new(python)
        .args([
            "-I",
            "-c",
            "import sysconfig; print(sysconfig.get_path('include'), end='')",
        ])
        .output()
        .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
    assert!(
        output.status.success(),
        "{python} does not know its own include path"
    );
    PathBuf::from(String::from_utf8(output.stdout).expect("the include path is text"))
}
