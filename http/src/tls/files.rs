//! Certificates, keys and authorities, from files in PEM.

use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig, SignatureAlgorithm};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked; one that is shown has to be good.
    Optional,
    /// Who shows none is refused.
    Required,
}

/// The files that TLS takes. All are PEM.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The server's certificate, and those that lead from it to its authority.
    pub certificate: PathBuf,
    /// Its key; `None` when that is in the same file.
    pub key: Option<PathBuf>,
    /// The authorities whose clients are let in.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show certificates, which takes `client_ca`.
    pub client_auth: ClientAuth,
}

/// What is wrong with the files: a sentence that names the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// What one reading of the files gave.
pub(crate) struct Loaded {
    pub(crate) config: Arc<ServerConfig>,
    /// A handshake takes long enough to hold others up: see `handshake.rs`.
    pub(crate) is_slow: bool,
}

/// TLS for a server, whose files can be read again while it serves.
///
/// ```no_run
/// use roving_http::{Tls, TlsFiles};
/// let tls = Tls::load(TlsFiles { certificate: "cert.pem".into(), key: Some("key.pem".into()), ..Default::default() }, true)?;
/// // The files have changed: connections from now on get the new ones.
/// tls.reload()?;
/// # Ok::<(), roving_http::TlsError>(())
/// ```
pub struct Tls {
    files: TlsFiles,
    http2: bool,
    loaded: RwLock<Arc<Loaded>>,
}

impl Tls {
    /// Reads the files. `http2`: whether it is offered to clients.
    ///
    /// # Errors
    /// A file is missing, is not PEM, or holds nothing of use; the key is encrypted, or is not that of the certificate.
    pub fn load(files: TlsFiles, http2: bool) -> Result<Self, TlsError> {
        let loaded = RwLock::new(Arc::new(load(&files, http2)?));
        Ok(Self { files, http2, loaded })
    }

    /// Reads the files again. Connections that are there go on as they are.
    ///
    /// # Errors
    /// As of [`Tls::load`]; what there was stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = Arc::new(load(&self.files, self.http2)?);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .field("http2", &self.http2)
            .finish_non_exhaustive()
    }
}

fn load(files: &TlsFiles, http2: bool) -> Result<Loaded, TlsError> {
    let provider = Arc::new(default_provider());
    let chain = certificates(&files.certificate)?;
    let key_path = files.key.as_ref().unwrap_or(&files.certificate);
    let key = key(key_path)?;
    let signing = provider.key_provider.load_private_key(key.clone_key());
    let signing =
        signing.map_err(|error| wrong(key_path, &format!("holds a key that cannot be used: {error}")))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?;
    let builder = match (files.client_auth, &files.client_ca) {
        (ClientAuth::None, None) => builder.with_no_client_auth(),
        (ClientAuth::None, Some(_)) => {
            return Err(TlsError(
                "authorities for clients' certificates, and clients are not asked for any".into(),
            ));
        }
        (_, None) => {
            return Err(TlsError(
                "clients' certificates are asked for, and there is no authority to check them by".into(),
            ));
        }
        (auth, Some(path)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| wrong(path, &format!("holds a bad certificate: {error}")))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let verifier = match auth {
                ClientAuth::Optional => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier
                .build()
                .map_err(|error| wrong(path, &error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError(format!(
                "the key in {} is not that of the certificate in {}",
                key_path.display(),
                files.certificate.display()
            )),
            rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
                wrong(&files.certificate, "holds a certificate that cannot be read")
            }
            error => wrong(&files.certificate, &error.to_string()),
        })?;
    // A new key for tickets each time: a session of a client whose authority is no longer among ours ends with it.
    config.ticketer = Ticketer::new().map_err(|error| TlsError(error.to_string()))?;
    config.alpn_protocols = match http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    Ok(Loaded {
        config: Arc::new(config),
        is_slow: signing.algorithm() == SignatureAlgorithm::RSA,
    })
}

fn wrong(path: &Path, what: &str) -> TlsError {
    TlsError(format!("{}: {what}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let bytes = std::fs::read(path).map_err(|error| wrong(path, &error.to_string()))?;
    if !has(&bytes, "-----BEGIN ") {
        return Err(wrong(path, "is not PEM: there is no -----BEGIN in it"));
    }
    Ok(bytes)
}

fn has(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| wrong(path, &format!("is broken PEM: {error}")))?;
    match found.is_empty() {
        true => Err(wrong(path, "has no certificate in it")),
        false => Ok(found),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    if has(&bytes, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(&bytes, "Proc-Type: 4,ENCRYPTED") {
        return Err(wrong(path, "the key is encrypted; store it without a passphrase"));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => wrong(path, "has no private key in it"),
        error => wrong(path, &format!("is broken PEM: {error}")),
    })
}
