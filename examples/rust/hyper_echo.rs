//! An HTTP/1.1 server that echoes request bodies: hyper's connections as stackless futures on roving's workers, one
//! acceptor fiber, no tokio runtime. `cargo run --release --example hyper_echo [ADDRESS]`

use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use roving_runtime::hyper::HyperTimer;
use roving_runtime::net::{AcceptBackoff, TcpListener};
use roving_runtime::{Handle, Runtime, spawn_future};
use std::convert::Infallible;

type Body = Either<Incoming, Full<Bytes>>;

async fn echo(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        // Streamed back as it comes in: memory stays flat.
        (&Method::POST, "/echo") => Response::new(Either::Left(request.into_body())),
        (&Method::POST, "/reverse") => match request.into_body().collect().await {
            Ok(body) => Response::new(Either::Right(Full::new(
                body.to_bytes().iter().rev().copied().collect(),
            ))),
            Err(error) => plain(StatusCode::BAD_REQUEST, format!("the body broke off: {error}\n")),
        },
        (&Method::GET, "/") => plain(StatusCode::OK, "POST to /echo or /reverse\n".to_owned()),
        _ => plain(StatusCode::NOT_FOUND, "not found\n".to_owned()),
    })
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    response
}

fn serve(listener: &TcpListener) -> std::io::Result<()> {
    let handle = Handle::current().expect("in a fiber");
    let mut backoff = AcceptBackoff::new();
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // Out of descriptors, or a connection that was gone already: wait a little and go on.
            Err(error) => {
                backoff.failed(error)?;
                continue;
            }
        };
        backoff.accepted();
        stream.set_nodelay(true)?;
        let timer = HyperTimer::new(handle.clone());
        spawn_future(async move {
            let connection = http1::Builder::new()
                .timer(timer)
                .serve_connection(stream, service_fn(echo));
            if let Err(error) = connection.await {
                eprintln!("connection: {error}");
            }
        })
        .detach();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let listener = TcpListener::bind(&*address)?;
    println!("listening on http://{}", listener.local_addr()?);
    let runtime = Runtime::new()?;
    runtime.spawn(move || serve(&listener)).join()??;
    Ok(())
}
