//! What the checker costs: heads as clients send them, whole and byte by byte, and bodies.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use roving_http::strict::{Checker, Limits, Step};
use std::hint::black_box;

const SHORT: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";

const BROWSER: &[u8] = b"GET /static/app/main.js?v=1234567890abcdef HTTP/1.1\r\n\
Host: www.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Connection: keep-alive\r\n\
Referer: https://www.example.com/start?from=a&to=b\r\n\
Cookie: session=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcdefghijklmnop; theme=dark\r\n\
Sec-Fetch-Dest: script\r\n\
Sec-Fetch-Mode: no-cors\r\n\
Sec-Fetch-Site: same-origin\r\n\
Priority: u=2\r\n\
\r\n";

const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn fresh() -> Checker {
    Checker::new(&Limits::default())
}

fn strict(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("strict");
    for (name, head) in [("short head", SHORT), ("browser's head", BROWSER)] {
        group.throughput(Throughput::Bytes(head.len() as u64));
        let mut checker = fresh();
        // The same connection: keep-alive.
        group.bench_function(name, |bencher| {
            bencher.iter(|| match checker.next(black_box(head)) {
                Ok(Step::Head(head)) => head,
                other => panic!("{other:?}"),
            });
        });
    }
    group.bench_function("browser's head, byte by byte", |bencher| {
        bencher.iter_batched(
            fresh,
            |mut checker| {
                for end in 1..BROWSER.len() {
                    assert_eq!(checker.next(&BROWSER[..end]), Ok(Step::More));
                }
                checker.next(BROWSER)
            },
            BatchSize::SmallInput,
        );
    });
    for size in [16, 1024, 16 * 1024] {
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        group.throughput(Throughput::Bytes(chunk.len() as u64));
        let endless = Limits {
            body: u64::MAX,
            ..Limits::default()
        };
        let mut checker = Checker::new(&endless);
        assert!(matches!(checker.next(CHUNKED), Ok(Step::Head(_))));
        group.bench_function(format!("chunk of {size}"), |bencher| {
            bencher.iter(|| checker.next(black_box(chunk.as_bytes())));
        });
    }
    group.finish();
}

criterion_group!(benches, strict);
criterion_main!(benches);
