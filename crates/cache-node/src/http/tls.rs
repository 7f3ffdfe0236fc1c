//! TLS at the HTTP side, also mutual: certificates from files, read again when the configuration is.

use std::sync::Arc;

use anyhow::Context;
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;
use x509_cert::der::Decode;

use super::pem;
use crate::config::TlsFiles;

/// What connections are secured with, now.
pub(crate) struct Tls(RwLock<Current>);

struct Current {
    config: Arc<ServerConfig>,
    certificate: Certificate,
}

/// The certificate that the node shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// When it ends, in Unix seconds; or why that cannot be told.
    pub(crate) ends: Result<u64, String>,
    /// Why the files that were there at the last reading were not taken over; `None` = they were.
    pub(crate) refused: Option<String>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file cannot be used, why, and what would help.
    pub(crate) fn read(files: &TlsFiles) -> anyhow::Result<Self> {
        Ok(Self(RwLock::new(Current::read(files)?)))
    }

    /// Reads files again, for the connections to come. Where they cannot be used, all stays as it was.
    ///
    /// # Errors
    /// As [`Tls::read`].
    pub(crate) fn renew(&self, files: &TlsFiles) -> anyhow::Result<()> {
        match Current::read(files) {
            Ok(renewed) => *self.0.write() = renewed,
            Err(error) => {
                self.0.write().certificate.refused = Some(format!("{error:#}"));
                return Err(error);
            }
        }
        Ok(())
    }

    /// The certificate that new connections are shown.
    pub(crate) fn certificate(&self) -> Certificate {
        self.0.read().certificate.clone()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.read().config.clone())
    }
}

impl Current {
    fn read(files: &TlsFiles) -> anyhow::Result<Self> {
        let chain = pem::certificates("http.tls_cert_file", &files.cert)?;
        let ends = chain.first().map_or(Err("there is none".to_owned()), ends);
        let config = Arc::new(server_config(files, chain)?);
        Ok(Self { config, certificate: Certificate { ends, refused: None } })
    }
}

/// When a certificate ends, in Unix seconds.
fn ends(certificate: &CertificateDer<'_>) -> Result<u64, String> {
    let read = x509_cert::Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    Ok(read.tbs_certificate().validity().not_after.to_unix_duration().as_secs())
}

/// TLS 1.2 and 1.3, by ring; HTTP/1.1 within.
fn server_config(files: &TlsFiles, chain: Vec<CertificateDer<'static>>) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = pem::authorities("http.client_ca_file", path)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = pem::private_key("http.tls_key_file", &files.key)?;
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
