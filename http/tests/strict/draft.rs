//! Requests in parts, so that one part of a right request can be exchanged for another.

use roving_http::strict::Fault;

/// A request as its reader should understand it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    /// In the order of names, those of one name in the order they came in. Names in lower case.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
}

/// What should become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expect {
    Passes(Seen),
    /// Refused in its head: nobody hears of it.
    Head(u16, Fault),
    /// Refused in its body: its reader gets an error.
    Body(u16, Fault),
}

/// A raw request, and what should become of it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) raw: Vec<u8>,
    pub(crate) expect: Expect,
}

/// A request to be rendered.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) name: &'static str,
    pub(crate) before: Vec<u8>,
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) version: Vec<u8>,
    /// Instead of the three, with its end.
    pub(crate) line: Option<Vec<u8>>,
    /// With their ends.
    pub(crate) host: Vec<Vec<u8>>,
    pub(crate) fields: Vec<Vec<u8>>,
    pub(crate) framing: Vec<Vec<u8>>,
    pub(crate) end: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// What the body means, and what the target is for hyper where that is not what it was.
    pub(crate) content: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    pub(crate) understood: Option<Vec<u8>>,
}

fn line(text: &[u8]) -> Vec<u8> {
    [text, b"\r\n"].concat()
}

impl Draft {
    fn new(name: &'static str, method: &str, target: &str, version: &str) -> Self {
        Self {
            name,
            before: Vec::new(),
            method: method.into(),
            target: target.into(),
            version: version.into(),
            line: None,
            host: vec![line(b"Host: example.com")],
            fields: vec![line(b"User-Agent: table/1"), line(b"Accept: */*")],
            framing: Vec::new(),
            end: line(b""),
            body: Vec::new(),
            content: Vec::new(),
            trailers: Vec::new(),
            understood: None,
        }
    }

    pub(crate) fn get() -> Self {
        Self::new("GET", "GET", "/a/b?c=d", "HTTP/1.1")
    }

    pub(crate) fn old() -> Self {
        Self {
            host: Vec::new(),
            ..Self::new("GET of 1.0", "GET", "/old", "HTTP/1.0")
        }
    }

    pub(crate) fn absolute() -> Self {
        Self::new("absolute", "GET", "http://example.com/a", "HTTP/1.1")
    }

    pub(crate) fn length() -> Self {
        Self {
            framing: vec![line(b"Content-Length: 11")],
            body: b"hello world".to_vec(),
            content: b"hello world".to_vec(),
            ..Self::new("POST with length", "POST", "/form", "HTTP/1.1")
        }
    }

    pub(crate) fn chunked() -> Self {
        Self {
            framing: vec![line(b"Transfer-Encoding: chunked")],
            body: b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n".to_vec(),
            content: b"hello world".to_vec(),
            ..Self::new("PUT in chunks", "PUT", "/file", "HTTP/1.1")
        }
    }

    pub(crate) fn raw(&self) -> Vec<u8> {
        let first = self
            .line
            .clone()
            .unwrap_or_else(|| line(&[&self.method[..], b" ", &self.target, b" ", &self.version].concat()));
        let lines = [&self.host[..], &self.fields, &self.framing].concat().concat();
        [&self.before[..], &first, &lines, &self.end, &self.body].concat()
    }

    pub(crate) fn seen(&self) -> Seen {
        let mut fields: Vec<_> = [&self.host[..], &self.fields, &self.framing]
            .concat()
            .iter()
            .map(|line| field(line))
            .collect();
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        Seen {
            method: text(&self.method),
            target: text(self.understood.as_ref().unwrap_or(&self.target)),
            version: text(&self.version),
            fields,
            body: self.content.clone(),
            trailers: self.trailers.clone(),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The name, in lower case, and the value of a line that is right.
fn field(line: &[u8]) -> (String, Vec<u8>) {
    let colon = line
        .iter()
        .position(|&byte| byte == b':')
        .expect("a field has a colon");
    let value = &line[colon + 1..];
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|byte| !blank(byte))
        .map_or(start, |last| last + 1);
    (text(&line[..colon]).to_lowercase(), value[start..end].to_vec())
}

/// What is done to a draft with a value of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    Method,
    Target,
    Version,
    /// The whole request line, with its end.
    Line,
    /// Bytes before it.
    Before,
    /// The value of Host.
    Host,
    /// A further field line, without its end.
    Field,
    /// Further bytes behind the fields, with their end.
    RawField,
    /// The bytes right after the request line, in place of Host and all fields.
    Fields,
    /// The line that frames the body, without its end.
    Framing,
    /// The empty line behind the head.
    End,
    /// The raw body.
    Body,
    /// What is behind the last chunk's line, with the empty line.
    Trailers,
}

impl Edit {
    pub(crate) fn apply(self, draft: &mut Draft, value: &[u8]) {
        match self {
            Self::Method => draft.method = value.to_vec(),
            Self::Target => draft.target = value.to_vec(),
            Self::Version => draft.version = value.to_vec(),
            Self::Line => draft.line = Some(value.to_vec()),
            Self::Before => draft.before = value.to_vec(),
            Self::Host => draft.host = vec![line(&[b"Host: ", value].concat())],
            Self::Field => draft.fields.push(line(value)),
            Self::RawField => draft.fields.push(value.to_vec()),
            Self::Fields => {
                draft.host = Vec::new();
                draft.fields = vec![value.to_vec()];
            }
            Self::Framing => draft.framing = vec![line(value)],
            Self::End => draft.end = value.to_vec(),
            Self::Body => draft.body = value.to_vec(),
            Self::Trailers => {
                draft.body = [b"5\r\nhello\r\n6\r\n world\r\n0\r\n", value].concat();
                draft.trailers = value
                    .split_inclusive(|&byte| byte == b'\n')
                    .filter(|line| line.len() > 2 && line.contains(&b':'))
                    .map(field)
                    .collect();
                draft.trailers.sort_by(|one, other| one.0.cmp(&other.0));
            }
        }
    }
}
