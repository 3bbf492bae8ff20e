//! hyper's connections on roving: a server and a client, both without a tokio runtime.

mod common;

use common::runtime;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use roving_runtime::hyper::{HyperExecutor, HyperTimer};
use roving_runtime::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use roving_runtime::{Handle, block_on, sleep_future, spawn, spawn_future};
use std::convert::Infallible;
use std::future::Future;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

async fn echo(request: Request<Incoming>) -> Result<Response<Incoming>, Infallible> {
    Ok(Response::new(request.into_body()))
}

fn serve<S>(stream: S, header_timeout: Duration)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let timer = HyperTimer::new(Handle::current().expect("on a worker"));
    spawn_future(async move {
        let mut builder = server::conn::http1::Builder::new();
        let builder = builder.timer(timer).header_read_timeout(header_timeout);
        // The test's clients close when they like.
        let _ = builder.serve_connection(stream, service_fn(echo)).await;
    })
    .detach();
}

async fn ask<S>(stream: S, bodies: Vec<Bytes>) -> Vec<Bytes>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = client::conn::http1::handshake(stream).await.unwrap();
    spawn_future(connection).detach();
    let mut answers = Vec::new();
    for body in bodies {
        let request = Request::post("/")
            .header("host", "test")
            .body(Full::new(body))
            .unwrap();
        sender.ready().await.unwrap();
        let response = sender.send_request(request).await.unwrap();
        answers.push(response.into_body().collect().await.unwrap().to_bytes());
    }
    answers
}

fn bodies() -> Vec<Bytes> {
    [0, 1, 1000, 300_000]
        .into_iter()
        .map(|len| (0..len).map(|n| n as u8).collect())
        .collect()
}

#[test]
fn requests_are_echoed_over_tcp() {
    for workers in [1, 2, 4] {
        let runtime = runtime(workers);
        runtime
            .spawn(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                spawn(move || {
                    for _ in 0..20 {
                        serve(listener.accept().unwrap().0, LONG);
                    }
                });
                let clients: Vec<_> = (0..20)
                    .map(|_| {
                        spawn(move || {
                            // Half futures, half fibers: a stream connected by a fiber is used by a future.
                            let stream = TcpStream::connect(address).unwrap();
                            block_on(ask(stream, bodies())).unwrap()
                        })
                    })
                    .collect();
                for client in clients {
                    assert_eq!(client.join().unwrap(), bodies());
                }
            })
            .join()
            .unwrap();
    }
}

#[test]
fn requests_are_echoed_over_unix_sockets() {
    let path = std::env::temp_dir().join(format!("roving-hyper-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let runtime = runtime(2);
    let inside = path.clone();
    let answers = runtime.spawn(move || {
        let listener = UnixListener::bind(&inside).unwrap();
        let acceptor = spawn(move || serve(listener.accept().unwrap().0, LONG));
        let stream = UnixStream::connect(&inside).unwrap();
        let answers = block_on(ask(stream, bodies())).unwrap();
        acceptor.join().unwrap();
        answers
    });
    assert_eq!(answers.join().unwrap(), bodies());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn hypers_timeouts_fire() {
    let runtime = runtime(1);
    let (answer, waited) = runtime
        .spawn(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let acceptor = spawn(move || serve(listener.accept().unwrap().0, Duration::from_millis(50)));
            let stream = TcpStream::connect(address).unwrap();
            let start = Instant::now();
            // A head that never ends: the header timeout closes the connection.
            (&stream).write_all(b"POST / HTTP/1.1\r\nhost: x\r\n").unwrap();
            let mut answer = Vec::new();
            (&stream).read_to_end(&mut answer).unwrap();
            acceptor.join().unwrap();
            (answer, start.elapsed())
        })
        .join()
        .unwrap();
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert!(waited >= Duration::from_millis(50));
}

#[test]
fn sleeps_of_futures_wake_and_can_be_reset_and_dropped() {
    let runtime = runtime(2);
    runtime
        .handle()
        .spawn_future(async {
            let start = Instant::now();
            sleep_future(Duration::from_millis(5)).await;
            assert!(start.elapsed() >= Duration::from_millis(5));
            let mut sleep = sleep_future(Duration::from_secs(3600));
            let waker_seen = std::future::poll_fn(|context| {
                let pending = std::pin::Pin::new(&mut sleep).poll(context).is_pending();
                std::task::Poll::Ready(pending)
            })
            .await;
            assert!(waker_seen);
            sleep.reset(Instant::now());
            sleep.await;
            drop(sleep_future(Duration::from_secs(3600)));
        })
        .join()
        .unwrap();
    // From a plain thread, by a handle.
    block_on(
        runtime
            .handle()
            .sleep_until(Instant::now() + Duration::from_millis(1)),
    )
    .unwrap();
}

#[test]
fn the_executor_spawns_on_the_current_runtime() {
    use hyper::rt::Executor;
    let runtime = runtime(1);
    let (send, receive) = std::sync::mpsc::channel();
    runtime
        .spawn(move || {
            HyperExecutor.execute(async move {
                send.send(std::thread::current().name().map(str::to_owned))
                    .unwrap();
            });
        })
        .join()
        .unwrap();
    assert_eq!(receive.recv().unwrap().as_deref(), Some("roving-0"));
}
