//! A server with fixed answers, in the clear or with mutual TLS: for what no node can be brought to in a test's time.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// Answers by path, in turn; the last one stays.
type Answers = BTreeMap<String, Vec<Value>>;

/// Ends with this value.
pub(crate) struct Canned {
    pub(crate) address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Canned {
    pub(crate) fn start(answers: &[(&str, Vec<Value>)]) -> Self {
        Self::run(answers, None)
    }

    /// With TLS: shows a certificate of the CA in the folder, and wants to be shown one.
    pub(crate) fn start_tls(answers: &[(&str, Vec<Value>)], folder: &Path) -> Self {
        let pem = |name: &str| folder.join(name);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pem("ca.pem")).expect("a CA")).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let chain = vec![CertificateDer::from_pem_file(pem("cert.pem")).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(pem("key.pem")).expect("a key");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(clients.build().expect("a verifier"))
            .with_single_cert(chain, key)
            .expect("a certificate with its key");
        Self::run(answers, Some(Arc::new(config)))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn run(answers: &[(&str, Vec<Value>)], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let ends = Arc::new(AtomicBool::new(false));
        let mut answers: Answers =
            answers.iter().map(|(path, all)| ((*path).to_owned(), all.clone())).collect();
        let thread = std::thread::spawn({
            let ends = ends.clone();
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if ends.load(Ordering::Relaxed) {
                        break;
                    }
                    // Who hangs up in the handshake has seen enough.
                    let _ = match &tls {
                        Some(config) => ServerConnection::new(config.clone())
                            .map_err(std::io::Error::other)
                            .and_then(|connection| serve(StreamOwned::new(connection, stream), &mut answers)),
                        None => serve(stream, &mut answers),
                    };
                }
            }
        });
        Self { address, ends, thread: Some(thread) }
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Answers one request and closes.
fn serve(stream: impl Read + Write, answers: &mut Answers) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request)?;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = request.split(' ').nth(1).and_then(|target| target.split('?').next()).unwrap_or_default();
    let (status, body) = match answers.get_mut(path) {
        Some(all) if all.len() > 1 => ("200 OK", all.remove(0).to_string()),
        Some(all) => ("200 OK", all[0].to_string()),
        None => ("404 Not Found", String::new()),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let stream = stream.get_mut();
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()
}

/// A CA, and a certificate for 127.0.0.1 that serves both sides.
pub(crate) fn certificates(folder: &Path) -> [PathBuf; 3] {
    let openssl = |args: &str| {
        let done = Command::new("openssl").args(args.split(' ')).current_dir(folder).output();
        let done = done.expect("openssl makes certificates: install it (Debian: apt-get install openssl)");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    std::fs::write(folder.join("ext"), "subjectAltName=IP:127.0.0.1\n").expect("a file");
    openssl(&format!("req -x509 {curve} -keyout ca.key -out ca.pem -subj /CN=test-ca -days 2"));
    openssl(&format!("req {curve} -keyout key.pem -out csr.pem -subj /CN=127.0.0.1"));
    openssl(
        "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile ext",
    );
    ["ca.pem", "cert.pem", "key.pem"].map(|name| folder.join(name))
}
