//! What trusted proxies say of the clients behind them.
//!
//! A client may send these fields, too, so only what a proxy added counts. A proxy appends: the last address is who connected
//! to the nearest proxy, the one before it is what that one claims. They are read from the right, for as long as the one
//! who speaks is trusted; what lies further left anybody may have written.

mod forwarded;
mod network;

#[cfg(test)]
mod test;

use crate::listener::Endpoint;
use forwarded::Hop;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, header};
use network::Network;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Of more addresses none is looked at.
const HOPS: usize = 100;

/// Who may say where requests come from, and in which fields.
///
/// ```
/// let proxies = roving_http::Proxies::new("10.0.0.0/8, ::1, unix", "x-forwarded-for, x-forwarded-proto")?;
/// assert!(roving_http::Proxies::new("10.0.0.1/8", "x-forwarded-for").is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// Whoever connects.
    all: bool,
    /// Who connects through a Unix socket.
    unix: bool,
    networks: Vec<Network>,
    fields: Fields,
}

/// The fields that proxies set.
#[derive(Debug, Clone, Copy, Default)]
struct Fields {
    for_: bool,
    proto: bool,
    host: bool,
    prefix: bool,
    forwarded: bool,
}

/// Where a request comes from, as far as trusted proxies say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub host: Option<String>,
    /// The client's port.
    pub port: Option<String>,
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// What the client asked for: host, and port if need be.
    pub authority: Option<String>,
    /// Where the proxy has the application mounted: begins with a slash, and does not end in one.
    pub prefix: Option<String>,
}

/// A field of a trusted proxy's that was ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadField {
    /// Its name.
    pub name: HeaderName,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for BadField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was ignored: {}", self.name, self.why)
    }
}

/// An address, with a port or without.
pub(crate) type Node = (IpAddr, Option<u16>);

impl Proxies {
    /// `allowed`: addresses, networks, `*` for whoever connects, `unix` for who connects through a Unix socket, with commas
    /// between them. `fields`: `x-forwarded-for`, `-proto`, `-host`, `-prefix`, or `forwarded`.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn new(allowed: &str, fields: &str) -> Result<Self, String> {
        let mut proxies = Self::default();
        for word in words(allowed) {
            match word {
                "*" => proxies.all = true,
                "unix" => proxies.unix = true,
                word => proxies.networks.push(Network::parse(word)?),
            }
        }
        let known = &mut proxies.fields;
        for word in words(fields) {
            match word.to_ascii_lowercase().as_str() {
                "x-forwarded-for" => known.for_ = true,
                "x-forwarded-proto" => known.proto = true,
                "x-forwarded-host" => known.host = true,
                "x-forwarded-prefix" => known.prefix = true,
                "forwarded" => known.forwarded = true,
                _ => {
                    return Err(format!(
                        "{word:?} is none of x-forwarded-for, x-forwarded-proto, x-forwarded-host, \
                         x-forwarded-prefix and forwarded"
                    ));
                }
            }
        }
        if known.forwarded && (known.for_ || known.proto || known.host) {
            // A proxy that sets the one lets the others through as clients wrote them.
            return Err("forwarded stands for x-forwarded-for, -proto and -host: \
                        a proxy sets the one or the others, and only what it sets can be trusted"
                .to_owned());
        }
        Ok(proxies)
    }

    /// Whether it trusts nobody.
    pub fn is_empty(&self) -> bool {
        !self.all && !self.unix && self.networks.is_empty()
    }

    fn knows(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.networks.iter().any(|network| network.contains(addr))
    }

    fn trusts(&self, endpoint: &Endpoint) -> bool {
        self.all
            || if endpoint.remote_host.is_empty() {
                self.unix
            } else {
                let addr = endpoint.remote_host.parse();
                addr.is_ok_and(|addr| self.knows(addr))
            }
    }

    /// What is to be believed of a request's fields; `None` when who sent them is not trusted. What is malformed is left out
    /// and told.
    pub fn resolve(&self, headers: &HeaderMap, endpoint: &Endpoint) -> Option<(Origin, Vec<BadField>)> {
        if !self.trusts(endpoint) {
            return None;
        }
        let mut origin = Origin::default();
        let mut bad = Vec::new();
        let mut note = |name: HeaderName, why| bad.push(BadField { name, why });
        if self.fields.forwarded
            && headers.contains_key(header::FORWARDED)
            && let Err(why) = self.read_forwarded(headers, &mut origin)
        {
            origin = Origin::default();
            note(header::FORWARDED, why);
        }
        // How many proxies, from the nearest on, are believed.
        let mut hops = 1;
        if self.fields.for_ {
            match self.read_for(headers, &mut origin) {
                Ok(count) => hops = count.max(1),
                Err(why) => note(FOR, why),
            }
        }
        if self.fields.proto {
            match pick(headers, &PROTO, hops).and_then(|value| value.map(scheme).transpose()) {
                Ok(scheme) => origin.scheme = scheme.or(origin.scheme),
                Err(why) => note(PROTO, why),
            }
        }
        if self.fields.host {
            match pick(headers, &HOST, hops).and_then(|value| value.map(authority).transpose()) {
                Ok(authority) => origin.authority = authority.or(origin.authority),
                Err(why) => note(HOST, why),
            }
        }
        if self.fields.prefix {
            match pick(headers, &PREFIX, hops).and_then(|value| value.map(prefix).transpose()) {
                Ok(prefix) => origin.prefix = prefix,
                Err(why) => note(PREFIX, why),
            }
        }
        Some((origin, bad))
    }

    /// Goes from proxy to proxy; how many addresses were believed.
    fn read_for(&self, headers: &HeaderMap, origin: &mut Origin) -> Result<usize, &'static str> {
        let values = values(headers, &FOR)?;
        let mut found = None;
        let mut count = 0;
        for value in values.iter().rev() {
            if value.eq_ignore_ascii_case("unknown") {
                break;
            }
            let node = node(value).ok_or("it has something that is no address")?;
            count += 1;
            found = Some(node);
            if !self.knows(node.0) {
                break;
            }
        }
        set_client(origin, found);
        Ok(count)
    }

    fn read_forwarded(&self, headers: &HeaderMap, origin: &mut Origin) -> Result<(), &'static str> {
        let hops = forwarded::parse(headers)?;
        let mut found = None;
        for Hop { client, proto, host } in hops.iter().rev() {
            // Each is what one proxy says: of the nearest first, of those before it while they are trusted.
            if let Some(proto) = proto {
                origin.scheme = Some(scheme(proto)?);
            }
            if let Some(host) = host {
                origin.authority = Some(authority(host)?);
            }
            match client.as_deref() {
                // Hidden on purpose: RFC 7239, 6.3.
                Some(hidden) if hidden.starts_with('_') || hidden.eq_ignore_ascii_case("unknown") => break,
                Some(client) => {
                    let node = node(client).ok_or("it has something that is no address")?;
                    found = Some(node);
                    if !self.knows(node.0) {
                        break;
                    }
                }
                None => break,
            }
        }
        set_client(origin, found);
        Ok(())
    }
}

fn set_client(origin: &mut Origin, found: Option<Node>) {
    if let Some((addr, port)) = found {
        origin.host = Some(addr.to_canonical().to_string());
        origin.port = Some(port.map_or_else(String::new, |port| port.to_string()));
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|word| !word.is_empty())
}

/// The elements of a list, over all fields of that name.
fn values<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Vec<&'h str>, &'static str> {
    let mut values = Vec::new();
    for field in headers.get_all(name) {
        let text = field.to_str().map_err(|_| "it is not ASCII")?;
        values.extend(text.split(',').map(str::trim));
        if values.len() > HOPS {
            return Err("it has too many elements");
        }
    }
    Ok(values)
}

/// Of a field to which each proxy may have added: what the furthest one that is believed said.
fn pick<'h>(headers: &'h HeaderMap, name: &HeaderName, hops: usize) -> Result<Option<&'h str>, &'static str> {
    let values = values(headers, name)?;
    Ok(values.get(values.len().saturating_sub(hops)).copied())
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]` or `[::1]:5`.
fn node(text: &str) -> Option<Node> {
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Some((addr, None));
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Some((IpAddr::V6(inner.parse().ok()?), None));
    }
    let addr = text.parse::<SocketAddr>().ok()?;
    Some((addr.ip(), Some(addr.port())))
}

fn scheme(text: &str) -> Result<&'static str, &'static str> {
    match text {
        _ if text.eq_ignore_ascii_case("http") => Ok("http"),
        _ if text.eq_ignore_ascii_case("https") => Ok("https"),
        _ => Err("it is neither http nor https"),
    }
}

fn authority(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "it is no host and port";
    let authority: Authority = text.parse().map_err(|_| WRONG)?;
    let port = text[authority.host().len()..].strip_prefix(':');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]:".contains(&byte);
    // With a user in it, or an empty or crooked port, the lengths do not fit.
    match port {
        _ if !text.bytes().all(plain) || authority.host().is_empty() => Err(WRONG),
        None if text.len() == authority.host().len() => Ok(text.to_owned()),
        Some(port) if !port.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err(WRONG),
    }
}

fn prefix(text: &str) -> Result<String, &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let parts = || text.split('/').skip(1);
    if !text.starts_with('/') || !text.bytes().all(plain) {
        return Err("it is no plain path");
    }
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains("//") || parts().any(|part| part == "." || part == "..") {
        return Err("it is no plain path");
    }
    Ok(text.to_owned())
}
