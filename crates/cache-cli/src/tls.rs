//! Whom to trust, and what to show, when a node speaks TLS.

use std::path::Path;
use std::sync::Arc;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem};

use crate::arguments::Global;
use crate::failure::Failure;

/// How TLS is done, as the arguments say. Without a CA file the operating system's authorities are believed.
pub(crate) fn config(global: &Global) -> Result<TlsConfig, Failure> {
    let roots = match &global.ca_file {
        Some(file) => certificates("--ca-file", file)?,
        None => rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect(),
    };
    let client = match (&global.client_cert, &global.client_key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("--client-cert", cert)?;
            let pem = read("--client-key", key)?;
            let key = PrivateKey::from_pem(&pem).map_err(|_| no_pem("--client-key", key, "private key"))?;
            Some(ClientCert::new_with_certs(&chain, key))
        }
        // Clap sees to it that they come together.
        _ => None,
    };
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(client)
        .build())
}

fn certificates(flag: &str, file: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let pem = read(flag, file)?;
    let found: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() { Err(no_pem(flag, file, "certificate")) } else { Ok(found) }
}

fn read(flag: &str, file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| {
        Failure::usage(
            format!("{flag}: {} cannot be read: {error}", file.display()),
            "name a file in PEM format that this user may read",
        )
    })
}

fn no_pem(flag: &str, file: &Path, what: &str) -> Failure {
    Failure::usage(format!("{flag}: there is no {what} in {}", file.display()), "name a file in PEM format")
}
