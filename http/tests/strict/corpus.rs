//! The corpus against the checker alone: every request as the table says, in any parts, and one behind the other.

use crate::draft::{Case, Expect};
use crate::parts::{Random, in_any_parts, whole};
use crate::{invalid, shown, valid};
use roving_http::strict::{Checker, Fault, Limits};
use std::collections::HashSet;

fn checker() -> Checker {
    Checker::new(&Limits::default())
}

#[test]
fn there_are_enough_of_both() {
    assert!(valid::cases().len() >= 150, "{} valid", valid::cases().len());
    assert!(
        invalid::cases().len() >= 150,
        "{} invalid",
        invalid::cases().len()
    );
    let valid: HashSet<_> = valid::cases().into_iter().map(|case| case.raw).collect();
    assert!(invalid::cases().iter().all(|case| !valid.contains(&case.raw)));
}

#[test]
fn what_is_valid_passes_in_any_parts() {
    for Case { name, raw, .. } in valid::cases() {
        let outcome = in_any_parts(&name, &checker(), &raw);
        assert_eq!(outcome.refused, None, "{name}: {}", shown(&raw));
        assert_eq!(outcome.at_eof, None, "{name}: {}", shown(&raw));
        assert_eq!(shown(&outcome.passed), shown(&raw), "{name}");
        assert_eq!(outcome.heads.len(), 1, "{name}");
    }
}

#[test]
fn what_is_invalid_is_refused_in_any_parts() {
    let mut wrong = Vec::new();
    for Case { name, raw, expect } in invalid::cases() {
        let outcome = in_any_parts(&name, &checker(), &raw);
        let (status, fault, heads) = match expect {
            Expect::Head(status, fault) => (status, fault, 0),
            Expect::Body(status, fault) => (status, fault, 1),
            Expect::Passes(_) => panic!("{name} is no refusal"),
        };
        let found = outcome
            .refused
            .map(|refused| (refused.status().as_u16(), refused.fault));
        if found != Some((status, fault)) || outcome.heads.len() != heads {
            wrong.push(format!(
                "{name}: {status} {fault:?}, not {found:?}: {}",
                shown(&raw)
            ));
        }
        if heads == 0 {
            assert_eq!(
                shown(&outcome.passed),
                "",
                "{name}: part of a refused head passed"
            );
        }
    }
    assert!(wrong.is_empty(), "{}\n{} of them", wrong.join("\n"), wrong.len());
}

#[test]
fn every_fault_has_a_case() {
    let covered: HashSet<_> = invalid::cases()
        .into_iter()
        .filter_map(|case| match case.expect {
            Expect::Head(_, fault) | Expect::Body(_, fault) => Some(fault),
            Expect::Passes(_) => None,
        })
        .collect();
    // Limits and ends have tests of their own, in `limits` and below.
    let elsewhere = [
        Fault::RequestLineLength,
        Fault::Http2Preface,
        Fault::FieldCount,
        Fault::FieldBytes,
        Fault::ChunkLine,
        Fault::ChunkExtensions,
        Fault::TrailerCount,
        Fault::TrailerBytes,
        Fault::HeadCut,
        Fault::HeadTime,
        Fault::BodyCut,
    ];
    let missing: Vec<_> = Fault::ALL
        .iter()
        .filter(|fault| !covered.contains(fault) && !elsewhere.contains(fault))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Requests one behind the other, cut anywhere: the same as each for itself, and what follows a refusal stays unread.
#[test]
fn pipelines_are_read_one_by_one() {
    let valid: Vec<_> = valid::cases()
        .into_iter()
        .filter(|case| whole(&case.raw).heads[0].keep_alive)
        .collect();
    let invalid = invalid::cases();
    let mut random = Random::new(5);
    for round in 0..300 {
        let good: Vec<_> = (0..1 + random.below(4))
            .map(|_| &valid[random.below(valid.len())])
            .collect();
        let bad = &invalid[random.below(invalid.len())];
        let mut bytes: Vec<u8> = good.iter().flat_map(|case| case.raw.clone()).collect();
        let before = bytes.len();
        let name = format!("round {round}: {} valid, then {}", good.len(), bad.name);

        let outcome = in_any_parts(&name, &checker(), &bytes);
        assert_eq!(outcome.refused, None, "{name}");
        assert_eq!(outcome.heads.len(), good.len(), "{name}");
        assert_eq!(shown(&outcome.passed), shown(&bytes), "{name}");

        bytes.extend_from_slice(&bad.raw);
        bytes.extend_from_slice(&valid[0].raw);
        let outcome = whole(&bytes);
        let (fault, heads) = match bad.expect {
            Expect::Head(_, fault) => (fault, 0),
            Expect::Body(_, fault) => (fault, 1),
            Expect::Passes(_) => panic!("{name} is no refusal"),
        };
        let refused = outcome.refused.unwrap_or_else(|| panic!("{name} passed"));
        assert_eq!(refused.fault, fault, "{name}");
        assert_eq!(refused.request, good.len() as u64 + 1, "{name}");
        assert_eq!(outcome.heads.len(), good.len() + heads, "{name}");
        assert!(refused.offset >= before as u64, "{name}");
        if heads == 0 {
            assert_eq!(outcome.passed.len(), before, "{name}");
        }
    }
}

/// A request that is cut short is refused once the client ends, and never taken for a whole one.
#[test]
fn cut_requests_are_no_requests() {
    for Case { name, raw, .. } in valid::cases() {
        let head = whole(&raw).heads[0].length;
        for end in 1..raw.len() {
            let outcome = whole(&raw[..end]);
            assert_eq!(outcome.refused, None, "{name}");
            let fault = outcome.at_eof.map(|refused| refused.fault);
            let begun = raw[..end].iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
            let expected = match (begun, end < head) {
                // A lone CR may have become an empty line.
                (false, _) => None,
                (true, true) => Some(Fault::HeadCut),
                (true, false) => Some(Fault::BodyCut),
            };
            assert_eq!(fault, expected, "{name}: cut at {end}: {}", shown(&raw));
        }
    }
}

/// After `Connection: close`, or a request of 1.0 without keep-alive, the connection says nothing more to anybody.
#[test]
fn the_last_request_is_the_last() {
    for case in valid::cases() {
        let outcome = whole(&case.raw);
        let bytes = [&case.raw[..], b"GET / HTTP/1.1\nX"].concat();
        let more = in_any_parts(&case.name, &checker(), &bytes);
        match outcome.heads[0].keep_alive {
            true => assert_eq!(
                more.refused.map(|refused| refused.fault),
                Some(Fault::BareLf),
                "{}",
                case.name
            ),
            false => assert!(
                more.ended && more.refused.is_none() && more.passed == case.raw,
                "{}",
                case.name
            ),
        }
    }
}
