//! Certificates and keys out of PEM files, with errors that name the setting and say what would help.

use std::path::Path;

use anyhow::{Context, bail};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates in a file, at least one.
///
/// # Errors
/// It cannot be read, or there is none in it.
pub(crate) fn certificates(setting: &str, path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let cure = "name a readable PEM file with certificates";
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let chain: Vec<_> =
        read.map_err(|error| anyhow::anyhow!("{setting} = {}: {error}; {cure}", path.display()))?;
    if chain.is_empty() {
        bail!("{setting} = {}: there is no certificate in it; {cure}", path.display());
    }
    Ok(chain)
}

/// The certificates in a file as authorities.
///
/// # Errors
/// As [`certificates`]; or one of them is none of an authority.
pub(crate) fn authorities(setting: &str, path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(setting, path)? {
        roots
            .add(certificate)
            .with_context(|| format!("{setting} = {}: a certificate in it cannot be used", path.display()))?;
    }
    Ok(roots)
}

/// The private key in a file.
///
/// # Errors
/// It cannot be read, or there is none in it.
pub(crate) fn private_key(setting: &str, path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        anyhow::anyhow!(
            "{setting} = {}: {error}; name a readable PEM file with one private key that has no password",
            path.display()
        )
    })
}
