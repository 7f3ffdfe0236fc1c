//! Certificates for tests with TLS, made by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A CA, and a certificate for 127.0.0.1 that serves both sides: the files of certificate, key and CA.
///
/// # Panics
/// `openssl` is not at hand, or the folder cannot be written.
pub fn certificates(folder: &Path) -> [PathBuf; 3] {
    certificates_for(folder, 2)
}

/// The same, valid for so many days from now.
///
/// # Panics
/// As [`certificates`].
pub fn certificates_for(folder: &Path, days: u32) -> [PathBuf; 3] {
    let openssl = |args: &str| {
        let done = Command::new("openssl").args(args.split(' ')).current_dir(folder).output();
        let done = done.expect("openssl makes certificates: install it (Debian: apt-get install openssl)");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    std::fs::write(folder.join("ext"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .expect("the folder can be written");
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {curve} -keyout ca.key -out ca.pem -subj /CN=test-ca -days {days}"));
    openssl(&format!("req {curve} -keyout key.pem -out csr.pem -subj /CN=127.0.0.1"));
    openssl(&format!(
        "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days {days} -extfile ext"
    ));
    ["cert.pem", "key.pem", "ca.pem"].map(|name| folder.join(name))
}
