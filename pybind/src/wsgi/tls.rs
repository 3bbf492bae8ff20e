//! TLS as Python gives it, and as an environ says it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use roving_http::{ClientAuth, Tls, TlsError, TlsFiles, TlsInfo};
use std::path::PathBuf;
use std::sync::Arc;

/// The certificate, the key, the authorities of clients, and `none`, `optional` or `required`.
pub(crate) type Files = (PathBuf, Option<PathBuf>, Option<PathBuf>, String);

fn wrong(error: TlsError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Reads the files.
pub(crate) fn load(py: Python<'_>, files: Files, http2: bool) -> PyResult<Arc<Tls>> {
    let (certificate, key, client_ca, auth) = files;
    let client_auth = match auth.as_str() {
        "none" => ClientAuth::None,
        "optional" => ClientAuth::Optional,
        "required" => ClientAuth::Required,
        _ => {
            return Err(PyValueError::new_err(
                "clients' certificates: none, optional or required",
            ));
        }
    };
    let files = TlsFiles {
        certificate,
        key,
        client_ca,
        client_auth,
    };
    let tls = py.detach(|| Tls::load(files, http2)).map_err(wrong)?;
    Ok(Arc::new(tls))
}

/// Reads them again.
pub(crate) fn reload(py: Python<'_>, tls: &Tls) -> PyResult<()> {
    py.detach(|| tls.reload()).map_err(wrong)
}

/// Says of a request what Apache's mod_ssl says, as far as it takes no reading of certificates.
pub(crate) fn describe(environ: &Bound<'_, PyAny>, info: &TlsInfo) -> PyResult<()> {
    let environ = environ.cast::<PyDict>()?;
    environ.set_item("SSL_PROTOCOL", info.protocol)?;
    environ.set_item("SSL_CIPHER", &info.cipher)?;
    match &info.client_certificate {
        Some(der) => {
            environ.set_item("SSL_CLIENT_VERIFY", "SUCCESS")?;
            environ.set_item("SSL_CLIENT_CERT", pem(der))
        }
        None => environ.set_item("SSL_CLIENT_VERIFY", "NONE"),
    }
}

/// A certificate in PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    // 48 bytes are a line of 64 digits.
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = (0..3).fold(0, |bits, at| {
                bits << 8 | u32::from(group.get(at).copied().unwrap_or(0))
            });
            for at in 0..4 {
                match at <= group.len() {
                    true => text.push(char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize])),
                    false => text.push('='),
                }
            }
        }
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
