//! A client whose bytes can be cut into pieces and changed.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

pub(crate) struct Client {
    config: Arc<ClientConfig>,
    session: ClientConnection,
    stream: TcpStream,
    /// How many bytes are sent at once.
    pub(crate) piece: usize,
    /// How many records have come.
    pub(crate) records: usize,
    /// What has come of a record.
    incoming: Vec<u8>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, trusted: &Path, protocols: &[&str]) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(trusted).expect("it is good");
        roots.add(certificate).expect("it is good");
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self::connect(address, Arc::new(config))
    }

    fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").expect("it is a name");
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(crate::WAIT)).expect("it is no zero");
        stream.set_nodelay(true).expect("it is open");
        Self {
            session: ClientConnection::new(config.clone(), name).expect("it can begin"),
            config,
            stream,
            piece: usize::MAX,
            records: 0,
            incoming: Vec::new(),
        }
    }

    /// Connects once more, with the sessions this one knows.
    pub(crate) fn again(&self, address: SocketAddr) -> Self {
        Self::connect(address, self.config.clone())
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(crate) fn agreed(&self) -> Option<&str> {
        let name = self.session.alpn_protocol()?;
        std::str::from_utf8(name).ok()
    }

    fn send(&mut self) {
        let mut bytes = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut bytes).expect("a vector takes all");
        }
        for piece in bytes.chunks(self.piece) {
            // It may have gone already.
            let _ = self.stream.write_all(piece);
        }
    }

    /// Takes in what comes; false at the end.
    fn receive(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        let count = self.stream.read(&mut bytes)?;
        self.incoming.extend_from_slice(&bytes[..count]);
        // Type, version, length.
        while let Some(&[high, low]) = self.incoming.get(3..5) {
            let length = 5 + usize::from(u16::from_be_bytes([high, low]));
            if self.incoming.len() < length {
                break;
            }
            self.records += 1;
            self.incoming.drain(..length);
        }
        let mut rest = &bytes[..count];
        loop {
            self.session.read_tls(&mut rest)?;
            self.session
                .process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if rest.is_empty() {
                return Ok(count != 0);
            }
        }
    }

    pub(crate) fn shake_hands(&mut self) {
        while self.session.is_handshaking() {
            self.send();
            if self.session.is_handshaking() {
                assert!(self.receive().expect("it is good"), "it has ended");
            }
        }
        self.send();
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.shake_hands();
        self.session.writer().write_all(bytes).expect("it is buffered");
        self.send();
    }

    /// Writes a record of which one bit is wrong, and a good one behind it.
    pub(crate) fn write_forged(&mut self, forged: &[u8], good: &[u8]) {
        let mut bytes = Vec::new();
        for part in [forged, good] {
            self.session.writer().write_all(part).expect("it is buffered");
            self.session.write_tls(&mut bytes).expect("a vector takes all");
            if part == forged {
                *bytes.last_mut().expect("it is a record") ^= 1;
            }
        }
        self.stream.write_all(&bytes).expect("it is open");
    }

    /// Ends our side, with or without saying so.
    pub(crate) fn close(&mut self, notify: bool) {
        if notify {
            self.session.send_close_notify();
            self.send();
        }
        // It may have gone already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads until what has come ends so.
    pub(crate) fn read_until(&mut self, end: &[u8]) {
        let mut text = Vec::new();
        while !text.ends_with(end) {
            assert!(self.receive().expect("it is good"), "it has ended");
            // It says that there is no more yet.
            let _ = self.session.reader().read_to_end(&mut text);
        }
    }

    /// Reads to the end, which has to be told.
    pub(crate) fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            match self.session.reader().read_to_end(&mut text) {
                Ok(_) => return Ok(text),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            self.receive()?;
        }
    }
}
