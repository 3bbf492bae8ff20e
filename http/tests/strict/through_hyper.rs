//! The corpus through hyper: what the table calls valid, hyper understands as the table does; of what it calls invalid,
//! no request reaches the service.

use crate::draft::{Case, Expect};
use crate::parts::Random;
use crate::serving::{Calls, answer, serve};
use crate::wire::{Driven, Wire, statuses};
use crate::{invalid, shown, valid};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use roving_http::strict::{Config, Fault, Strict};
use std::sync::Arc;

/// The case in one part, byte by byte, and in random parts.
fn cuts(raw: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut random = Random::new(raw.len() as u64 + 1);
    vec![
        vec![raw],
        raw.chunks(1).collect(),
        random.parts(raw),
        random.parts(raw),
    ]
}

#[test]
fn hyper_understands_what_passes() {
    for Case { name, raw, expect } in valid::cases() {
        let Expect::Passes(seen) = expect else {
            panic!("{name} is a refusal")
        };
        for parts in cuts(&raw) {
            let (calls, written, refused) = serve(&parts);
            assert_eq!(refused, None, "{name}");
            assert_eq!(calls, [Ok(seen.clone())], "{name}: {}", shown(&raw));
            assert_eq!(statuses(&written), [200], "{name}: {written}");
        }
    }
}

#[test]
fn hyper_never_hears_of_what_does_not() {
    for Case { name, raw, expect } in invalid::cases() {
        for parts in cuts(&raw) {
            let (calls, written, refused) = serve(&parts);
            let refused = refused.unwrap_or_else(|| panic!("{name} passed: {}", shown(&raw)));
            let (status, fault) = match expect {
                Expect::Head(status, fault) => {
                    assert_eq!(calls, [], "{name}: {}", shown(&raw));
                    (status, fault)
                }
                Expect::Body(status, fault) => {
                    assert_eq!(calls, [Err(refused)], "{name}: {}", shown(&raw));
                    (status, fault)
                }
                Expect::Passes(_) => panic!("{name} is no refusal"),
            };
            assert_eq!(refused.fault, fault, "{name}: {}", shown(&raw));
            assert_eq!(statuses(&written), [status], "{name}: {written}");
        }
    }
}

#[test]
fn pipelines_are_answered_in_order_up_to_a_refusal() {
    let valid: Vec<_> = valid::cases()
        .into_iter()
        .filter(|case| crate::parts::whole(&case.raw).heads[0].keep_alive)
        .collect();
    let invalid = invalid::cases();
    let mut random = Random::new(7);
    for round in 0..300 {
        let good: Vec<_> = (0..1 + random.below(5))
            .map(|_| &valid[random.below(valid.len())])
            .collect();
        let bad = &invalid[random.below(invalid.len())];
        let bytes = [
            good.iter().flat_map(|case| case.raw.clone()).collect(),
            bad.raw.clone(),
        ]
        .concat();
        let (calls, written, refused) = serve(&random.parts(&bytes));
        let name = format!(
            "round {round}: {} valid, then {}: {}",
            good.len(),
            bad.name,
            shown(&bytes)
        );
        for (case, call) in good.iter().zip(&calls) {
            assert_eq!(case.expect, Expect::Passes(call.clone().expect(&name)), "{name}");
        }
        let (status, heard) = match bad.expect {
            Expect::Head(status, _) => (status, 0),
            Expect::Body(status, _) => (status, 1),
            Expect::Passes(_) => panic!("{name} is no refusal"),
        };
        assert_eq!(calls.len(), good.len() + heard, "{name}");
        let expected = [vec![200; good.len()], vec![status]].concat();
        assert_eq!(statuses(&written), expected, "{name}: {written}");
        assert!(refused.is_some(), "{name}");
    }
}

/// A body that is cut short is an error for its reader, wherever it is cut.
#[test]
fn a_short_body_is_no_body() {
    let bodies = [
        &b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"[..],
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    ];
    for raw in bodies {
        let head = crate::parts::whole(raw).heads[0].length;
        for end in head..raw.len() {
            let wire = Wire::with([&raw[..end]]);
            wire.end();
            let calls = Calls::default();
            let strict = Strict::new(wire.clone(), Arc::new(Config::default()));
            let service = service_fn(|request| answer(&calls, request));
            let mut driven = Driven::new(http1::Builder::new().serve_connection(strict, service));
            assert!(driven.run().is_some());
            drop(driven);
            let calls = calls.into_inner();
            let [Err(refused)] = &calls[..] else {
                panic!("cut at {end}: {calls:?}");
            };
            assert_eq!(refused.fault, Fault::BodyCut);
        }
    }
}
