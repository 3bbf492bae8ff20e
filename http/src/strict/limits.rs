//! How much of everything one request may have.

use hyper::server::conn::http1;

/// How much of everything one request may have. What is over a limit is refused as soon as that is known.
///
/// hyper has limits of its own behind these. [`Limits::clamped`] keeps ours within them, and [`Limits::configure`] raises
/// hyper's where it can be asked to: what the checker passes, hyper has to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request line, without its CRLF; 64 to 65,000.
    pub request_line: usize,
    /// Bytes of a method; at most 64.
    pub method: usize,
    /// Field lines of a head; at most 1,000.
    pub fields: usize,
    /// Bytes of all field lines of a head together, with their CRLFs; at most 256 KiB.
    pub field_bytes: usize,
    /// Empty lines in front of a request line; at most 16.
    pub empty_lines: usize,
    /// Bytes of a body, whether announced by Content-Length or summed over chunks.
    pub body: u64,
    /// Bytes of a line with a chunk's size and extensions, without its CRLF; at most 8 KiB.
    pub chunk_line: usize,
    /// Bytes of all chunk extensions of a body together; at most 16,000.
    pub chunk_extensions: usize,
    /// Field lines in a trailer section; at most as many as in a head, and 100.
    pub trailer_fields: usize,
    /// Bytes of a trailer section, with CRLFs; at most 16,000.
    pub trailer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line: 8 * 1024,
            method: 32,
            fields: 100,
            field_bytes: 64 * 1024,
            empty_lines: 2,
            body: 1 << 30,
            chunk_line: 256,
            chunk_extensions: 8 * 1024,
            trailer_fields: 32,
            trailer_bytes: 8 * 1024,
        }
    }
}

impl Limits {
    /// These limits, lowered to what hyper and the checker can keep.
    #[must_use]
    pub fn clamped(&self) -> Self {
        Self {
            // hyper: a target of 65,534 bytes.
            request_line: self.request_line.clamp(64, 65_000),
            method: self.method.min(64),
            fields: self.fields.min(1_000),
            field_bytes: self.field_bytes.min(256 * 1024),
            empty_lines: self.empty_lines.min(16),
            // hyper keeps the two highest numbers for itself.
            body: self.body.min(u64::MAX - 2),
            chunk_line: self.chunk_line.min(8 * 1024),
            // hyper: below 16 KiB, over the whole body.
            chunk_extensions: self.chunk_extensions.min(16_000),
            trailer_fields: self.trailer_fields.min(self.fields).min(100),
            // hyper: below 16 KiB.
            trailer_bytes: self.trailer_bytes.min(16_000),
        }
    }

    /// Sets hyper's limits so that it takes whatever the checker passes.
    ///
    /// ```
    /// let mut builder = hyper::server::conn::http1::Builder::new();
    /// roving_http::strict::Limits::default().configure(&mut builder);
    /// ```
    pub fn configure(&self, builder: &mut http1::Builder) {
        let limits = self.clamped();
        // Unasked, hyper takes 100 and keeps them off the heap; a limit of less is ours to enforce.
        if limits.fields > 100 {
            builder.max_headers(limits.fields);
        }
        // Never below hyper's default of 408 KiB, which holds the longest head there can be.
    }
}
