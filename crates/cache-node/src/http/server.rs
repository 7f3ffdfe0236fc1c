//! Connections: taken, secured, served and, when the node stops, finished.
//!
//! What bounds a connection: the time for its TLS handshake and for the head of each request (which is also how long it may
//! be idle), and the number of all of them. Past that number none is taken until one ends; they wait in the queue of the
//! operating system.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::Interface;
use super::head_time::HeadTimer;
use super::tls::Tls;

/// Longest head of a request, in bytes; hyper answers longer ones with 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// What is said where a request did not begin, or its head did not arrive, in the time for it.
const LATE: &str = "no whole head of a request arrived in time";
/// How long it is waited where the process has no file descriptor left for another connection.
const PAUSE: Duration = Duration::from_millis(50);

/// What bounds connections.
pub(crate) struct Bounds {
    /// How many there may be at a time.
    pub(crate) connections_max: usize,
    /// How long a handshake and the head of a request may take.
    pub(crate) head_timeout: Duration,
    /// How long requests under way may still take once the node stops.
    pub(crate) drain_limit: Duration,
}

/// Answers requests until `stopping` is cancelled, then finishes those under way, for as long as the bounds say.
pub(crate) async fn serve(
    listener: TcpListener,
    interface: Interface,
    tls: Option<Arc<Tls>>,
    bounds: Bounds,
    stopping: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    let serving = Arc::new(Serving { interface, head_timeout: bounds.head_timeout, stopping, cut });
    loop {
        let taken = tokio::select! {
            () = serving.stopping.cancelled() => break,
            taken = next(&listener, &places) => taken,
        };
        let Some((stream, peer, place)) = taken else { continue };
        let (serving, tls) = (serving.clone(), tls.clone());
        connections.spawn(async move {
            serving.connection(stream, peer, tls).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(bounds.drain_limit, connections.wait()).await.is_err() {
        let left = connections.len();
        warn!(left, "requests were still open after {:?}; they are cut off", bounds.drain_limit);
        serving.cut.cancel();
        connections.wait().await;
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// The next connection, once there is a place for it; nothing where it was lost at once.
async fn next(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, Place)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            let of_one = matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionRefused
            );
            if !of_one {
                warn!(%error, "no connection can be taken");
                tokio::time::sleep(PAUSE).await;
            }
            None
        }
    }
}

struct Serving {
    interface: Interface,
    head_timeout: Duration,
    stopping: CancellationToken,
    /// Cuts off what is still open.
    cut: CancellationToken,
}

impl Serving {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr, tls: Option<Arc<Tls>>) {
        // Answers are written whole; waiting for more of them only delays them.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else { return self.requests(stream, peer).await };
        let handshake = tokio::time::timeout(self.head_timeout, tls.acceptor().accept(stream));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = self.stopping.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.requests(stream, peer).await,
            Ok(Err(error)) => debug!(%peer, %error, "the TLS handshake failed"),
            Err(_) => debug!(%peer, "the TLS handshake took too long"),
        }
    }

    async fn requests<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, peer: SocketAddr) {
        let mut http = http1::Builder::new();
        let timer = HeadTimer::new();
        // Answers are short: one piece of memory is written sooner than two.
        http.writev(false);
        http.timer(timer.clone()).header_read_timeout(self.head_timeout).max_buf_size(HEAD_BYTES_MAX);
        let answering = service_fn(|request: Request<Incoming>| async move {
            // A body that is none needs no box.
            let boxed = |body: Incoming| if body.is_end_stream() { Body::empty() } else { Body::new(body) };
            Ok::<_, Infallible>(self.interface.answer(request.map(boxed), peer.ip()).await)
        });
        let mut served = pin!(http.serve_connection(TokioIo::new(stream), answering));
        let mut late = pin!(timer.late(self.head_timeout));
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = late.as_mut() => return debug!(%peer, "{LATE}"),
            () = self.stopping.cancelled() => {
                // Finishes the request under way, and takes no other.
                served.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = served => ended,
                    () = late => return debug!(%peer, "{LATE}"),
                    () = self.cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            // Clients that go away are none of the node's concern.
            debug!(%peer, %error, "a connection ended badly");
        }
    }
}
