//! An echo server with a fiber for each connection.
//!
//! ```text
//! cargo run --release --example echo_server -- 127.0.0.1:7777 [workers]
//! ```

use roving_runtime::net::{AcceptBackoff, TcpListener, TcpStream};
use roving_runtime::{Runtime, spawn};
use std::error::Error;
use std::io::{self, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7777".to_owned());
    let mut builder = Runtime::builder();
    if let Some(workers) = args.next() {
        builder = builder.workers(workers.parse()?);
    }
    let listener = TcpListener::bind(addr)?;
    println!("listening on {}", listener.local_addr()?);
    builder.build()?.spawn(move || serve(&listener)).join()??;
    Ok(())
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    let mut backoff = AcceptBackoff::new();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                backoff.accepted();
                spawn(move || echo(&stream));
            }
            Err(error) => backoff.failed(error)?,
        }
    }
}

/// Sends everything back until the other side has no more to say.
fn echo(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = [0; 16 << 10];
    loop {
        match stream.read(&mut buf)? {
            0 => return Ok(()),
            count => stream.write_all(&buf[..count])?,
        }
    }
}
