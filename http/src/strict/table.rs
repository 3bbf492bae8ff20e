//! What each byte may be part of.

const TOKEN: u8 = 1;
const PATH: u8 = 1 << 1;
const QUERY: u8 = 1 << 2;
const HEX: u8 = 1 << 3;
const HOST: u8 = 1 << 4;
const QUOTED: u8 = 1 << 5;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    loop {
        let alphanumeric = byte.is_ascii_alphanumeric();
        let mut class = 0;
        // RFC 9110, 5.6.2.
        if alphanumeric
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            class |= TOKEN;
        }
        let unreserved = alphanumeric || matches!(byte, b'-' | b'.' | b'_' | b'~');
        let sub_delims = matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        );
        // RFC 3986, 3.3 and 3.4, and what browsers leave as it is: `?filter[a]=b` is everywhere.
        if unreserved || sub_delims || matches!(byte, b':' | b'@' | b'/' | b'%') {
            class |= PATH | QUERY;
        }
        if matches!(byte, b'[' | b']' | b'^' | b'|' | b'{' | b'}') {
            class |= PATH | QUERY;
        }
        if matches!(byte, b'?' | b'`' | b'\\') {
            class |= QUERY;
        }
        if byte.is_ascii_hexdigit() {
            class |= HEX;
        }
        if unreserved {
            class |= HOST;
        }
        // RFC 9110, 5.6.4, without DQUOTE and backslash.
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f && byte != b'"' && byte != b'\\') {
            class |= QUOTED;
        }
        table[byte as usize] = class;
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

/// Of a token (RFC 9110, 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & TOKEN != 0
}

/// Of a target's path.
pub(super) fn is_path(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & PATH != 0
}

/// Of a target's query.
pub(super) fn is_query(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & QUERY != 0
}

/// A hexadecimal digit.
pub(super) fn is_hex(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & HEX != 0
}

/// Of a host's name.
pub(super) fn is_host(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & HOST != 0
}

/// Of a quoted string, as itself.
pub(super) fn is_quoted(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & QUOTED != 0
}

/// Of a quoted string, after a backslash.
pub(super) fn is_quotable(byte: u8) -> bool {
    is_quoted(byte) || byte == b'"' || byte == b'\\'
}

/// Whether a line has a control character other than HTAB in it. Without a branch in the loop, so that it goes sixteen bytes
/// at a time.
pub(super) fn has_control(line: &[u8]) -> bool {
    line.iter().fold(false, |found, &byte| {
        found | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
    })
}

/// How many bytes at the beginning satisfy `test`.
pub(super) fn span(bytes: &[u8], test: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !test(byte)).unwrap_or(bytes.len())
}

/// Without spaces and tabs around it (OWS).
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
