//! TLS settings made ready once: files read, keys parsed, the crypto provider named.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::config::{ConfigError, Pem, TlsConfig};

/// What is needed to speak TLS to the servers of a deployment.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) connector: TlsConnector,
    /// The name that all of them have; `None` = each its own.
    name: Option<ServerName<'static>>,
}

impl Tls {
    pub(crate) fn new(config: &TlsConfig) -> Result<Self, ConfigError> {
        // Named here, since a process-wide default would be a global that other parts may set differently.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::new("TLS", error.to_string()))?;
        let builder = if config.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
        } else {
            builder.with_root_certificates(roots(config.ca.as_ref())?)
        };
        let client = match &config.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(certificates("TLS client certificate", chain)?, private_key(key)?)
                .map_err(|error| ConfigError::new("TLS client certificate", error.to_string()))?,
        };
        let name = config.server_name.as_deref().map(server_name).transpose()?;
        Ok(Self { connector: TlsConnector::from(Arc::new(client)), name })
    }

    /// The name to expect of the server at a host.
    pub(crate) fn name(&self, host: &str) -> Result<ServerName<'static>, ConfigError> {
        self.name.clone().map_or_else(|| server_name(host), Ok)
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, ConfigError> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| ConfigError::new("TLS server name", format!("{name:?} is no name of a server")))
}

fn read(field: &'static str, pem: &Pem) -> Result<Vec<u8>, ConfigError> {
    match pem {
        Pem::Text(bytes) => Ok(bytes.clone()),
        Pem::File(path) => std::fs::read(path)
            .map_err(|error| ConfigError::new(field, format!("{} cannot be read: {error}", path.display()))),
    }
}

fn certificates(field: &'static str, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(field, pem)?).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(ConfigError::new(field, "holds no certificate in PEM form")),
        Err(_) => Err(ConfigError::new(field, "is not PEM")),
    }
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, ConfigError> {
    const FIELD: &str = "TLS client key";
    // The error of the parser is left out: it may quote what it read.
    PrivateKeyDer::from_pem_slice(&read(FIELD, pem)?)
        .map_err(|_| ConfigError::new(FIELD, "holds no private key in PEM form"))
}

fn roots(ca: Option<&Pem>) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in certificates("TLS CA", pem)? {
                roots.add(certificate).map_err(|error| ConfigError::new("TLS CA", error.to_string()))?;
            }
        }
        // Single broken files of the system's store are no reason to refuse all of it.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(ConfigError::new("TLS CA", "the operating system has none; give one"));
            }
        }
    }
    Ok(roots)
}

/// Accepts any certificate, but still checks that the server has its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
