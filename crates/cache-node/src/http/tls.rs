//! TLS at the HTTP side, also mutual: certificates from files, read again when the configuration is.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use parking_lot::RwLock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// What connections are secured with, now.
pub(crate) struct Tls(RwLock<Arc<ServerConfig>>);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file cannot be used, why, and what would help.
    pub(crate) fn read(files: &TlsFiles) -> anyhow::Result<Self> {
        Ok(Self(RwLock::new(Arc::new(server_config(files)?))))
    }

    /// Reads files again, for the connections to come. Where they cannot be used, all stays as it was.
    ///
    /// # Errors
    /// As [`Tls::read`].
    pub(crate) fn renew(&self, files: &TlsFiles) -> anyhow::Result<()> {
        let config = server_config(files)?;
        *self.0.write() = Arc::new(config);
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.read().clone())
    }
}

/// TLS 1.2 and 1.3, by ring; HTTP/1.1 within.
fn server_config(files: &TlsFiles) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("http.client_ca_file", path)? {
                roots.add(certificate).with_context(|| {
                    format!("http.client_ca_file = {}: a certificate in it cannot be used", path.display())
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
        anyhow::anyhow!(
            "http.tls_key_file = {}: {error}; name a readable PEM file with one private key that has no password",
            files.key.display()
        )
    })?;
    let chain = certificates("http.tls_cert_file", &files.cert)?;
    let mut config = builder.with_single_cert(chain, key).with_context(|| {
        format!(
            "http.tls_cert_file = {} and http.tls_key_file = {} do not go together: the key must be that of the first \
             certificate",
            files.cert.display(),
            files.key.display()
        )
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(setting: &str, path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let cure = "name a readable PEM file with certificates";
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let chain: Vec<_> =
        read.map_err(|error| anyhow::anyhow!("{setting} = {}: {error}; {cure}", path.display()))?;
    if chain.is_empty() {
        bail!("{setting} = {}: there is no certificate in it; {cure}", path.display());
    }
    Ok(chain)
}
