//! `Forwarded` (RFC 7239).

use http::{HeaderMap, header};

/// What one proxy says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) client: Option<String>,
    pub(super) proto: Option<String>,
    pub(super) host: Option<String>,
}

const WRONG: &str = "it does not follow RFC 7239";

/// Reads all of it: the nearest proxy's comes last.
pub(super) fn parse(headers: &HeaderMap) -> Result<Vec<Hop>, &'static str> {
    let mut hops = Vec::new();
    for field in headers.get_all(header::FORWARDED) {
        let text = field.to_str().map_err(|_| "it is not ASCII")?;
        parse_field(text, &mut hops)?;
    }
    Ok(hops)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn parse_field(text: &str, hops: &mut Vec<Hop>) -> Result<(), &'static str> {
    let mut rest = text.trim();
    loop {
        let mut hop = Hop::default();
        rest = parse_hop(rest, &mut hop)?.trim_start();
        hops.push(hop);
        if hops.len() > super::HOPS {
            return Err("it has too many elements");
        }
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => return Ok(()),
            None => return Err(WRONG),
        }
    }
}

/// Reads `name=value;name=value`; gives back what comes behind it.
fn parse_hop<'t>(mut rest: &'t str, hop: &mut Hop) -> Result<&'t str, &'static str> {
    loop {
        let end = rest
            .bytes()
            .position(|byte| !is_token(byte))
            .unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        let behind = behind
            .strip_prefix('=')
            .filter(|_| !name.is_empty())
            .ok_or(WRONG)?;
        let (value, behind) = parse_value(behind)?;
        let place = match name.to_ascii_lowercase().as_str() {
            "for" => Some(&mut hop.client),
            "proto" => Some(&mut hop.proto),
            "host" => Some(&mut hop.host),
            _ => None,
        };
        if let Some(place) = place
            && place.replace(value).is_some()
        {
            return Err("it says something twice");
        }
        match behind.strip_prefix(';') {
            Some(more) => rest = more,
            None => return Ok(behind),
        }
    }
}

/// Reads a token or a quoted string.
fn parse_value(text: &str) -> Result<(String, &str), &'static str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text
            .bytes()
            .position(|byte| !is_token(byte))
            .unwrap_or(text.len());
        return match text.split_at(end) {
            ("", _) => Err(WRONG),
            (token, behind) => Ok((token.to_owned(), behind)),
        };
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, &quoted[index + 1..])),
            '\\' => value.push(letters.next().ok_or(WRONG)?.1),
            letter => value.push(letter),
        }
    }
    Err(WRONG)
}
