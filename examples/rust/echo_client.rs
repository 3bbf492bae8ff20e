//! Load for `echo_server`: many connections, each sending a message and waiting for its echo, again and again.
//!
//! ```text
//! cargo run --release --example echo_client -- 127.0.0.1:7777 [connections] [seconds] [bytes]
//! ```

use roving_runtime::Runtime;
use roving_runtime::net::TcpStream;
use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7777".to_owned());
    let mut number = |default: u64| args.next().map_or(Ok(default), |arg| arg.parse());
    let (connections, seconds, bytes) = (number(100)?, number(3)?, number(64)?);
    let bytes = usize::try_from(bytes)?;
    let echoes = AtomicU64::new(0);
    let until = Instant::now() + Duration::from_secs(seconds);
    let runtime = Runtime::new()?;
    runtime.handle().scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| talk(&addr, bytes, until, &echoes).expect("the server is there"));
        }
    });
    let echoes = echoes.into_inner();
    println!(
        "{connections} connections, {echoes} echoes of {bytes} bytes, {} a second",
        echoes / seconds.max(1)
    );
    Ok(())
}

fn talk(addr: &str, bytes: usize, until: Instant, echoes: &AtomicU64) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    let (message, mut echo) = (vec![7; bytes], vec![0; bytes]);
    loop {
        stream.write_all(&message)?;
        stream.read_exact(&mut echo)?;
        echoes.fetch_add(1, Ordering::Relaxed);
        if Instant::now() >= until {
            return Ok(());
        }
    }
}
