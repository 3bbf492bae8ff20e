use super::*;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), value.parse().unwrap());
    }
    headers
}

fn from(peer: &str) -> Endpoint {
    Endpoint {
        remote_host: peer.to_owned(),
        ..Endpoint::default()
    }
}

const ALL: &str = "x-forwarded-for,x-forwarded-proto,x-forwarded-host,x-forwarded-prefix";

fn client(allowed: &str, peer: &str, chain: &[&str]) -> Option<String> {
    let fields: Vec<_> = chain.iter().map(|value| ("x-forwarded-for", *value)).collect();
    let proxies = Proxies::new(allowed, ALL).unwrap();
    let (origin, bad) = proxies.resolve(&headers(&fields), &from(peer))?;
    match bad.as_slice() {
        [] => origin.host,
        [bad] => Some(format!("bad: {}", bad.why)),
        _ => unreachable!("there is one field"),
    }
}

#[test]
fn chains_are_read_from_the_right() {
    let trusted = "10.0.0.0/8, 2001:db8::/32";
    let of = |peer, chain: &[&str]| client(trusted, peer, chain);
    let is = |text: &str| Some(text.to_owned());
    // Who is not trusted says nothing.
    assert_eq!(of("11.0.0.1", &["1.2.3.4"]), None);
    assert_eq!(of("", &["1.2.3.4"]), None);
    assert_eq!(of("10.0.0.1", &["1.2.3.4"]), is("1.2.3.4"));
    assert_eq!(of("10.0.0.1", &[]), None);
    // What a client wrote itself stands further left.
    assert_eq!(of("10.0.0.1", &["6.6.6.6, 1.2.3.4"]), is("1.2.3.4"));
    assert_eq!(of("10.0.0.1", &["6.6.6.6", "1.2.3.4"]), is("1.2.3.4"));
    assert_eq!(of("10.0.0.1", &["10.9.9.9, 1.2.3.4"]), is("1.2.3.4"));
    assert_eq!(of("10.0.0.1", &["<script>, 1.2.3.4"]), is("1.2.3.4"));
    // Through several proxies.
    assert_eq!(
        of("10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.0.0.3,10.0.0.2"]),
        is("1.2.3.4")
    );
    assert_eq!(of("10.0.0.1", &["1.2.3.4", "2001:db8::1"]), is("1.2.3.4"));
    // From within.
    assert_eq!(of("10.0.0.1", &["10.0.0.7, 10.0.0.3"]), is("10.0.0.7"));
    // Ports, brackets, IPv4 in IPv6's clothes.
    assert_eq!(of("10.0.0.1", &["1.2.3.4:80"]), is("1.2.3.4"));
    assert_eq!(of("10.0.0.1", &["[2001:db9::1]:80"]), is("2001:db9::1"));
    assert_eq!(of("10.0.0.1", &["[2001:db9::1]"]), is("2001:db9::1"));
    assert_eq!(of("10.0.0.1", &["6.6.6.6, ::ffff:1.2.3.4"]), is("1.2.3.4"));
    assert_eq!(of("10.0.0.1", &["1.2.3.4, ::ffff:10.0.0.5"]), is("1.2.3.4"));
    // What is no address where one is believed.
    let bad = is("bad: it has something that is no address");
    for wrong in [
        "1.2.3.4, ",
        "1.2.3",
        "1.2.3.4, x, 10.0.0.2",
        "1.2.3.4:99999",
        "[1.2.3.4]",
        "::1]",
        "a b",
    ] {
        assert_eq!(of("10.0.0.1", &[wrong]), bad, "{wrong}");
    }
    // Of who is unknown no more is known than who said so.
    assert_eq!(of("10.0.0.1", &["6.6.6.6, unknown, 10.0.0.2"]), is("10.0.0.2"));
    assert_eq!(of("10.0.0.1", &["6.6.6.6, unknown"]), None);
    let long = vec!["1.2.3.4"; HOPS + 1].join(",");
    assert_eq!(of("10.0.0.1", &[&long]), is("bad: it has too many elements"));
}

#[test]
fn a_star_trusts_who_connects_and_nobody_else() {
    // Behind a proxy that appends the last one is the client, and the others what it claims to be.
    assert_eq!(
        client("*", "9.9.9.9", &["6.6.6.6, 1.2.3.4"]).as_deref(),
        Some("1.2.3.4")
    );
    assert_eq!(client("*", "", &["6.6.6.6, 1.2.3.4"]).as_deref(), Some("1.2.3.4"));
    let both = client("*, 10.0.0.0/8", "9.9.9.9", &["6.6.6.6, 1.2.3.4, 10.0.0.1"]);
    assert_eq!(both.as_deref(), Some("1.2.3.4"));
}

#[test]
fn unix_sockets_are_trusted_when_they_are_named() {
    assert_eq!(client("unix", "", &["1.2.3.4"]).as_deref(), Some("1.2.3.4"));
    assert_eq!(client("unix", "127.0.0.1", &["1.2.3.4"]), None);
    assert_eq!(client("127.0.0.1", "", &["1.2.3.4"]), None);
    assert_eq!(client("", "127.0.0.1", &["1.2.3.4"]), None);
}

#[test]
fn the_other_fields() {
    let proxies = Proxies::new("10.0.0.0/8", ALL).unwrap();
    let resolve =
        |fields: &[(&'static str, &str)]| proxies.resolve(&headers(fields), &from("10.0.0.1")).unwrap();
    let scheme = |fields: &[(&'static str, &str)]| resolve(fields).0.scheme;
    assert_eq!(scheme(&[("x-forwarded-proto", "HTTPS")]), Some("https"));
    assert_eq!(scheme(&[("x-forwarded-proto", "ftp")]), None);
    assert_eq!(scheme(&[("x-forwarded-proto", "")]), None);
    // The nearest proxy's, unless it stands behind another.
    assert_eq!(scheme(&[("x-forwarded-proto", "https, http")]), Some("http"));
    let chain = [
        ("x-forwarded-for", "1.2.3.4, 10.0.0.2"),
        ("x-forwarded-proto", "https, http"),
    ];
    assert_eq!(scheme(&chain), Some("https"));
    let spoofed = [
        ("x-forwarded-for", "1.2.3.4, 10.0.0.2"),
        ("x-forwarded-proto", "https, http, http"),
    ];
    assert_eq!(scheme(&spoofed), Some("http"));
    for host in ["example.org", "example.org:8443", "[::1]:80", "[::1]", "10.1.1.1"] {
        let (origin, bad) = resolve(&[("x-forwarded-host", host)]);
        assert_eq!((origin.authority.as_deref(), bad.len()), (Some(host), 0));
    }
    for host in [
        "", "a@b", "a b", "a/b", "a:", "a:b", "a:99999", ":80", "a?b", "a\"b", "a,", "[::1", "a<b",
    ] {
        let (origin, bad) = resolve(&[("x-forwarded-host", host)]);
        assert_eq!((origin.authority, bad.len()), (None, 1), "{host}");
    }
    for (text, read) in [("/shop", "/shop"), ("/a/b/", "/a/b"), ("/", "")] {
        assert_eq!(
            resolve(&[("x-forwarded-prefix", text)]).0.prefix.as_deref(),
            Some(read)
        );
    }
    for text in [
        "shop",
        "//evil.example",
        "/a/../b",
        "/a b",
        "/a%2f",
        "/a\\b",
        "/..",
        "",
        "/a//b",
    ] {
        let (origin, bad) = resolve(&[("x-forwarded-prefix", text)]);
        assert_eq!((origin.prefix, bad.len()), (None, 1), "{text}");
    }
    assert_eq!(
        resolve(&[("x-forwarded-proto", "ftp")]).1[0].to_string(),
        "x-forwarded-proto was ignored: it is neither http nor https"
    );
}

#[test]
fn only_the_fields_that_are_named() {
    let proxies = Proxies::new("10.0.0.0/8", "X-Forwarded-For").unwrap();
    let fields = headers(&[
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-prefix", "/evil"),
        ("forwarded", "for=6.6.6.6;proto=https;host=evil"),
    ]);
    let (origin, bad) = proxies.resolve(&fields, &from("10.0.0.1")).unwrap();
    assert_eq!(bad, []);
    let wanted = Origin {
        host: Some("1.2.3.4".to_owned()),
        port: Some(String::new()),
        ..Origin::default()
    };
    assert_eq!(origin, wanted);
}

#[test]
fn forwarded() {
    let proxies = Proxies::new("10.0.0.0/8, 2001:db8::/32", "forwarded").unwrap();
    let read = |fields: &[&str]| {
        let fields: Vec<_> = fields.iter().map(|value| ("forwarded", *value)).collect();
        let (origin, bad) = proxies.resolve(&headers(&fields), &from("10.0.0.1")).unwrap();
        let text = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        match bad.as_slice() {
            [] => format!(
                "{} {} {} {}",
                text(origin.host),
                text(origin.port),
                origin.scheme.unwrap_or("-"),
                text(origin.authority)
            ),
            [bad] => {
                assert_eq!(origin, Origin::default());
                format!("bad: {}", bad.why)
            }
            _ => unreachable!("there is one field"),
        }
    };
    assert_eq!(read(&["for=1.2.3.4"]), "1.2.3.4  - -");
    assert_eq!(
        read(&["For=\"[2001:db9::17]:4711\" , for=10.0.0.2;proto=http;by=10.0.0.1"]),
        "2001:db9::17 4711 http -"
    );
    assert_eq!(
        read(&[
            "for=1.2.3.4;proto=https;host=\"example.org:443\"",
            "for=10.0.0.2;proto=http;host=inner"
        ]),
        "1.2.3.4  https example.org:443"
    );
    // What a client wrote.
    assert_eq!(
        read(&["for=6.6.6.6;proto=https;host=evil, for=1.2.3.4;proto=http;host=example.org"]),
        "1.2.3.4  http example.org"
    );
    assert_eq!(read(&["for=6.6.6.6, for=_hidden, for=10.0.0.2"]), "10.0.0.2  - -");
    assert_eq!(read(&["for=6.6.6.6, proto=https"]), "- - https -");
    assert_eq!(read(&["for=\"1.2.3.\\4\";secret=\"a,b;c\\\"\""]), "1.2.3.4  - -");
    for wrong in [
        "",
        "for",
        "for=",
        "for=1.2.3.4;",
        "for=1.2.3.4,",
        "for=\"1.2.3.4",
        "=x",
        "for = x",
        "for=[::1]",
    ] {
        assert_eq!(read(&[wrong]), "bad: it does not follow RFC 7239", "{wrong}");
    }
    assert_eq!(read(&["for=1.2.3.4;for=6.6.6.6"]), "bad: it says something twice");
    assert_eq!(read(&["for=nowhere"]), "bad: it has something that is no address");
    assert_eq!(
        read(&["for=1.2.3.4;proto=ftp"]),
        "bad: it is neither http nor https"
    );
}

#[test]
fn networks() {
    for wrong in [
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "localhost",
        "::/129",
        "10.0.0",
        "/8",
    ] {
        assert!(Proxies::new(wrong, "").is_err(), "{wrong}");
    }
    assert!(Proxies::new("", "").unwrap().is_empty());
    assert!(Proxies::new("", "x-real-ip").is_err());
    assert!(Proxies::new("", "forwarded,x-forwarded-for").is_err());
    assert!(Proxies::new("", "forwarded,x-forwarded-prefix").is_ok());
    let all = Proxies::new("0.0.0.0/0", "x-forwarded-for").unwrap();
    assert!(all.knows("255.1.2.3".parse().unwrap()));
    assert!(all.knows("::ffff:1.2.3.4".parse().unwrap()));
    assert!(!all.knows("::1".parse().unwrap()));
}
