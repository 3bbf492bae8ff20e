//! The keys of an environ, and values that never change: interned once, which makes them immortal, so that no count of theirs
//! is ever shared between threads.

use crate::native::interned;
use http::HeaderName;
use http::header;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::OnceLock;

/// A text that lives as long as the interpreter.
pub(crate) type Name = Py<PyString>;

/// Fowler, Noll and Vo's hash, which is quick for a word: clients choose none of the keys below.
#[derive(Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

pub(crate) struct Names {
    pub(crate) request_method: Name,
    pub(crate) script_name: Name,
    pub(crate) path_info: Name,
    pub(crate) query_string: Name,
    pub(crate) raw_uri: Name,
    pub(crate) request_uri: Name,
    pub(crate) server_protocol: Name,
    pub(crate) server_name: Name,
    pub(crate) server_port: Name,
    pub(crate) remote_addr: Name,
    pub(crate) remote_port: Name,
    pub(crate) content_type: Name,
    pub(crate) content_length: Name,
    pub(crate) http_host: Name,
    pub(crate) input: Name,
    pub(crate) url_scheme: Name,
    pub(crate) empty: Name,
    pub(crate) slash: Name,
    pub(crate) http_1_0: Name,
    pub(crate) http_1_1: Name,
    pub(crate) http_2: Name,
    pub(crate) close: Name,
    methods: HashMap<&'static str, Name, BuildHasherDefault<Fnv>>,
    headers: HashMap<HeaderName, Name, BuildHasherDefault<Fnv>>,
}

const METHODS: [&str; 8] = [
    "GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
];

/// Fields that have a key of their own ready.
const HEADERS: [HeaderName; 38] = [
    header::ACCEPT,
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::ACCESS_CONTROL_REQUEST_HEADERS,
    header::ACCESS_CONTROL_REQUEST_METHOD,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::COOKIE,
    header::DATE,
    header::DNT,
    header::EXPECT,
    header::FORWARDED,
    header::FROM,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::LINK,
    header::MAX_FORWARDS,
    header::ORIGIN,
    header::PRAGMA,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::REFERER,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::UPGRADE_INSECURE_REQUESTS,
    header::USER_AGENT,
    header::VIA,
    header::WARNING,
];
/// And some that the `http` crate does not know.
const MORE_HEADERS: [&str; 18] = [
    "keep-alive",
    "priority",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-gpc",
    "traceparent",
    "tracestate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "x-requested-with",
];

static NAMES: OnceLock<Names> = OnceLock::new();

impl Names {
    fn new(py: Python<'_>) -> Self {
        let name = |text: &str| interned(py, text);
        let more = MORE_HEADERS.iter().map(|text| HeaderName::from_static(text));
        Self {
            request_method: name("REQUEST_METHOD"),
            script_name: name("SCRIPT_NAME"),
            path_info: name("PATH_INFO"),
            query_string: name("QUERY_STRING"),
            raw_uri: name("RAW_URI"),
            request_uri: name("REQUEST_URI"),
            server_protocol: name("SERVER_PROTOCOL"),
            server_name: name("SERVER_NAME"),
            server_port: name("SERVER_PORT"),
            remote_addr: name("REMOTE_ADDR"),
            remote_port: name("REMOTE_PORT"),
            content_type: name("CONTENT_TYPE"),
            content_length: name("CONTENT_LENGTH"),
            http_host: name("HTTP_HOST"),
            input: name("wsgi.input"),
            url_scheme: name("wsgi.url_scheme"),
            empty: name(""),
            slash: name("/"),
            http_1_0: name("HTTP/1.0"),
            http_1_1: name("HTTP/1.1"),
            http_2: name("HTTP/2.0"),
            close: name("close"),
            methods: METHODS.iter().map(|text| (*text, name(text))).collect(),
            headers: HEADERS
                .into_iter()
                .chain(more)
                .map(|header| {
                    let key = name(&key(header.as_str()));
                    (header, key)
                })
                .collect(),
        }
    }

    /// Makes them, once. Attached, and where waiting is allowed.
    pub(crate) fn prepare(py: Python<'_>) {
        if NAMES.get().is_none() {
            // Whoever is second throws its own away: they are the same immortal objects.
            let _ = NAMES.set(Self::new(py));
        }
    }

    #[inline]
    pub(crate) fn get() -> &'static Self {
        NAMES.get().expect("made before there is a server")
    }

    /// The name of a method, if it is a usual one.
    pub(crate) fn method(&self, method: &str) -> Option<&Name> {
        self.methods.get(method)
    }

    /// The key of a field, if it is a usual one.
    pub(crate) fn header(&self, header: &HeaderName) -> Option<&Name> {
        self.headers.get(header)
    }
}

/// The key of a field: `HTTP_` and its name, in capitals.
pub(crate) fn key(header: &str) -> String {
    let mut key = String::with_capacity(5 + header.len());
    key.push_str("HTTP_");
    key.extend(header.chars().map(|c| match c {
        '-' => '_',
        c => c.to_ascii_uppercase(),
    }));
    key
}
