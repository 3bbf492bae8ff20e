//! roving's sockets.

use super::roving::inside;
use roving_runtime::net::TcpListener;
use roving_runtime::spawn;
use std::io::Write;

/// Serves echo for ever; tells `ready` the port.
pub(crate) fn echo_server(ready: impl FnOnce(u16)) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    ready(listener.local_addr()?.port());
    inside(move || {
        loop {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            // Dropping the handle detaches the fiber.
            drop(spawn(move || {
                let mut buffer = [0; crate::echo::BUFFER];
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..len]).is_err() {
                        return;
                    }
                }
            }));
        }
    })
}
