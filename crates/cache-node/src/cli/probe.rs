//! `cache-node health`: asks the node of this machine how it is, for containers without an HTTP client.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::HttpConfig;
use crate::http::pem;

/// How long the node may take to answer.
const WITHIN: Duration = Duration::from_secs(3);
/// More than the first line of an answer has.
const FIRST_LINE_BYTES_MAX: u64 = 256;

/// Whom to believe that they are the node.
pub(super) struct Trust<'a> {
    /// Who has a certificate of these authorities; `None` = who has the very certificate that the configuration names.
    pub(super) ca: Option<&'a Path>,
    /// The name that must be in it; `None` = the host of the address.
    pub(super) name: Option<&'a str>,
}

/// Whether `GET /health` answers 200: healthy, or degraded but of use. Over TLS where the configuration names a certificate, or
/// there is a CA to trust.
///
/// # Errors
/// It does not, with what it said.
pub(super) async fn health(http: &HttpConfig, trust: Trust<'_>) -> anyhow::Result<()> {
    let address = reachable(&http.listen);
    let tls = tls(http, &trust)?;
    let ask = async {
        let stream = TcpStream::connect(&address).await.context("nobody listens")?;
        let Some(tls) = tls else { return first_line(stream, &address).await };
        let name = trust.name.unwrap_or_else(|| host(&address)).to_owned();
        let name = ServerName::try_from(name).context("--name must be a name or an address")?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
        first_line(stream.context("the TLS handshake failed")?, &address).await
    };
    let answer = tokio::time::timeout(WITHIN, ask).await;
    let answer = answer.with_context(|| format!("{address} did not answer within {WITHIN:?}"))?;
    let line = answer.with_context(|| address.clone())?;
    if line.split(' ').nth(1) != Some("200") {
        bail!("{address} said {line:?}");
    }
    Ok(())
}

async fn first_line(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: &str,
) -> anyhow::Result<String> {
    let request = format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut first = Vec::new();
    let _ = stream.take(FIRST_LINE_BYTES_MAX).read_to_end(&mut first).await?;
    Ok(String::from_utf8_lossy(&first).lines().next().unwrap_or_default().to_owned())
}

/// How to speak TLS; `None` = in the clear.
fn tls(http: &HttpConfig, trust: &Trust<'_>) -> anyhow::Result<Option<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match (trust.ca, &http.tls) {
        (Some(ca), _) => builder.with_root_certificates(pem::authorities("--ca", ca)?),
        (None, Some(files)) => {
            let chain = pem::certificates("http.tls_cert_file", &files.cert)?;
            let own = chain.into_iter().next().context("http.tls_cert_file has no certificate")?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Own { certificate: own, provider }))
        }
        (None, None) => return Ok(None),
    };
    // A node that wants to see certificates is shown its own.
    Ok(Some(match &http.tls {
        Some(files) if files.client_ca.is_some() => {
            let chain = pem::certificates("http.tls_cert_file", &files.cert)?;
            builder.with_client_auth_cert(chain, pem::private_key("http.tls_key_file", &files.key)?)?
        }
        _ => builder.with_no_client_auth(),
    }))
}

/// Believes one certificate, whatever names are in it: who has its key is the node. That it has ended keeps nobody from asking
/// how the node is; the doctor tells it.
#[derive(Debug)]
struct Own {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(
            "it is not the certificate in http.tls_cert_file; if that was renewed, send the node SIGHUP"
                .to_owned(),
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// An address to listen on as one to connect to: "all addresses" is reached on loopback.
fn reachable(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}

/// The host of an address, without the brackets of IPv6.
fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']'])
}
