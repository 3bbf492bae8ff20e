//! The Python extension module `roving._roving`.
//!
//! Empty so far. It will hold the Python side of the green threads: frozen classes, a family to a file, over
//! nothing but the public interface of [`roving_runtime`], and a C shim, compiled against one CPython's internal
//! headers, as the only code that touches the interpreter's thread state.
