//! What can be wrong with a request, and what is said about it.

use hyper::StatusCode;
use std::error::Error;
use std::fmt;
use std::io;

macro_rules! faults {
    ($($(#[$meta:meta])* $name:ident: $status:ident, $clause:literal, $text:literal;)*) => {
        /// What is wrong with a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Fault {
            $(#[doc = concat!("In words: ", $text, " (", $clause, ").")] $(#[$meta])* $name,)*
        }

        impl Fault {
            /// All there are, for tables and counters.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The status that answers it.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }

            /// The clause that forbids it, as "RFC 9112, 3.2".
            #[must_use]
            pub fn clause(self) -> &'static str {
                match self {
                    $(Self::$name => $clause,)*
                }
            }

            /// What is wrong, in words that fit a log line.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Its name, as a label of a counter.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

faults! {
    Tls: BAD_REQUEST, "RFC 9112, 2.1", "a TLS handshake on a port without TLS";
    BareLf: BAD_REQUEST, "RFC 9112, 2.2", "a line ends in LF without CR";
    BareCr: BAD_REQUEST, "RFC 9112, 2.2", "a CR without LF";
    EmptyLines: BAD_REQUEST, "RFC 9112, 2.2", "too many empty lines before the request line";
    RequestLine: BAD_REQUEST, "RFC 9112, 3", "the request line is not method, target and version with one space between them";
    Method: BAD_REQUEST, "RFC 9110, 9.1", "the method is not a token";
    MethodLength: NOT_IMPLEMENTED, "RFC 9112, 3", "the method is longer than any that is implemented";
    Connect: NOT_IMPLEMENTED, "RFC 9110, 9.3.6", "CONNECT, and this is no proxy";
    RequestLineLength: URI_TOO_LONG, "RFC 9112, 3", "the request line is too long";
    TargetForm: BAD_REQUEST, "RFC 9112, 3.2", "the target has none of the forms that fit the method";
    TargetByte: BAD_REQUEST, "RFC 9112, 3.2", "a byte in the target that has to be percent-encoded";
    TargetPercent: BAD_REQUEST, "RFC 3986, 2.1", "a percent sign in the path without two hexadecimal digits after it";
    TargetAuthority: BAD_REQUEST, "RFC 9110, 4.2", "the authority in the target is no host and port";
    Version: BAD_REQUEST, "RFC 9112, 2.3", "the version is not HTTP/1.0 or HTTP/1.1";
    VersionUnknown: HTTP_VERSION_NOT_SUPPORTED, "RFC 9110, 15.6.6", "a version of HTTP other than 1.0 and 1.1";
    Http2: HTTP_VERSION_NOT_SUPPORTED, "RFC 9113, 3.4", "the preface of HTTP/2 where HTTP/2 is not spoken";
    Http2Preface: BAD_REQUEST, "RFC 9113, 3.4", "the preface of HTTP/2 is broken";
    FieldName: BAD_REQUEST, "RFC 9112, 5", "a field line without a token and a colon at its beginning";
    SpaceBeforeColon: BAD_REQUEST, "RFC 9112, 5.1", "white space between a field name and its colon";
    Fold: BAD_REQUEST, "RFC 9112, 5.2", "a field line that begins with white space";
    FieldValue: BAD_REQUEST, "RFC 9110, 5.5", "a control character in a field value";
    FieldCount: REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585, 5", "too many fields";
    FieldBytes: REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585, 5", "the fields are too long";
    HostMissing: BAD_REQUEST, "RFC 9112, 3.2", "no Host";
    HostTwice: BAD_REQUEST, "RFC 9112, 3.2", "two Host fields";
    Host: BAD_REQUEST, "RFC 9112, 3.2", "the value of Host is no host and port";
    HostOther: BAD_REQUEST, "RFC 9112, 3.2.2", "Host differs from the authority in the target";
    LengthTwice: BAD_REQUEST, "RFC 9112, 6.3", "two Content-Length fields";
    Length: BAD_REQUEST, "RFC 9110, 8.6", "the value of Content-Length is not digits alone";
    LengthLimit: PAYLOAD_TOO_LARGE, "RFC 9110, 15.5.14", "Content-Length is over the limit of a body";
    CodingTwice: BAD_REQUEST, "RFC 9112, 6.1", "two Transfer-Encoding fields";
    Coding: BAD_REQUEST, "RFC 9112, 6.3", "Transfer-Encoding does not end in one plain `chunked`";
    CodingUnknown: NOT_IMPLEMENTED, "RFC 9112, 6.1", "a transfer coding other than chunked";
    CodingVersion: BAD_REQUEST, "RFC 9112, 6.1", "Transfer-Encoding in HTTP/1.0";
    CodingAndLength: BAD_REQUEST, "RFC 9112, 6.1", "Transfer-Encoding together with Content-Length";
    Connection: BAD_REQUEST, "RFC 9110, 7.6.1", "the value of Connection is no list of tokens";
    Expect: EXPECTATION_FAILED, "RFC 9110, 10.1.1", "an expectation other than one 100-continue";
    ChunkSize: BAD_REQUEST, "RFC 9112, 7.1", "a chunk size that is not hexadecimal digits alone";
    ChunkOverflow: BAD_REQUEST, "RFC 9112, 7.1", "a chunk size above 64 bits";
    ChunkExtension: BAD_REQUEST, "RFC 9112, 7.1.1", "a chunk extension that does not follow the grammar";
    ChunkLine: BAD_REQUEST, "RFC 9112, 7.1.1", "a line with a chunk size is too long";
    ChunkExtensions: BAD_REQUEST, "RFC 9112, 7.1.1", "the chunk extensions of a body are too long";
    ChunkEnd: BAD_REQUEST, "RFC 9112, 7.1", "a chunk is not followed by CRLF";
    ChunkLimit: PAYLOAD_TOO_LARGE, "RFC 9110, 15.5.14", "the chunks are over the limit of a body";
    TrailerField: BAD_REQUEST, "RFC 9110, 6.5.1", "a field in the trailers that belongs in the head";
    TrailerCount: REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585, 5", "too many fields in the trailers";
    TrailerBytes: REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585, 5", "the trailers are too long";
    HeadCut: BAD_REQUEST, "RFC 9112, 8", "the connection ended within a head";
    HeadTime: REQUEST_TIMEOUT, "RFC 9110, 15.5.9", "the head takes too long";
    BodyCut: BAD_REQUEST, "RFC 9112, 8", "the connection ended within a body";
}

/// A request that was refused. As the source of a body's error it is what the body's reader gets: see [`Refused::find`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub fault: Fault,
    /// Where: bytes since the connection began, up to the line (of a head or of trailers) or byte (of a body) at fault.
    pub offset: u64,
    /// In which request of the connection, counted from 1.
    pub request: u64,
    /// In its body, or in its head.
    pub in_body: bool,
}

impl Refused {
    /// The status that answers it.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.fault.status()
    }

    /// Looks for a refusal among an error and its sources, as in what reading a body gave.
    ///
    /// ```
    /// fn status(error: &hyper::Error) -> u16 {
    ///     roving_http::strict::Refused::find(error).map_or(400, |refused| refused.status().as_u16())
    /// }
    /// ```
    #[must_use]
    pub fn find<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(refused) = error.downcast_ref::<Self>() {
                return Some(refused);
            }
            // What an `io::Error` is made of is not its source: that is the source of what it is made of.
            let made_of = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match made_of {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    /// As what hyper reads.
    pub(super) fn into_io(self) -> io::Error {
        let kind = match self.fault {
            Fault::BodyCut => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fault,
            offset,
            request,
            in_body,
        } = self;
        let part = if *in_body { "body" } else { "head" };
        write!(
            f,
            "refused with {}: {} ({}), in the {part} of request {request}, at byte {offset}",
            fault.status().as_u16(),
            fault.text(),
            fault.clause(),
        )
    }
}

impl Error for Refused {}
