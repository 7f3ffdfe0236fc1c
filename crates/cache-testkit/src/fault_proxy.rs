//! A TCP proxy on loopback that misbehaves on request.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to bytes on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// They arrive.
    #[default]
    Pass,
    /// Both sides keep an open connection, and nothing arrives any more; what was sent meanwhile is lost.
    BlackHole,
    /// What the server says is lost; what the client says arrives.
    SwallowAnswers,
    /// What the client says is lost; what the server says arrives.
    SwallowRequests,
    /// Nobody takes what the server says: its buffers fill, until it does something about it.
    Stall,
    /// They arrive that much later, each way.
    Delay(Duration),
    /// The connection is reset (and new ones right after they were accepted).
    Reset,
}

/// A proxy in front of one address. All of it ends with this value.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    /// Where connections that come from now on lead.
    target: Arc<Mutex<SocketAddr>>,
    /// What connections that come from now on do.
    for_new: Arc<watch::Sender<Fault>>,
    current: Arc<Mutex<Vec<watch::Sender<Fault>>>>,
    _tasks: JoinSet<()>,
}

impl FaultProxy {
    /// Listens on a free port and passes everything on.
    ///
    /// # Errors
    /// If there is no port.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let for_new = Arc::new(watch::Sender::new(Fault::Pass));
        let current = Arc::new(Mutex::new(Vec::new()));
        let target = Arc::new(Mutex::new(target));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target.clone(), for_new.clone(), current.clone()));
        Ok(Self { addr, target, for_new, current, _tasks: tasks })
    }

    /// Leads the connections that come from now on somewhere else, as a name that points to another server does. Those that
    /// are open stay where they are.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.target.lock() = target;
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on, for all connections, open and to come.
    pub fn set(&self, fault: Fault) {
        self.set_new(fault);
        self.set_current(fault);
    }

    /// For connections that are yet to come.
    pub fn set_new(&self, fault: Fault) {
        self.for_new.send_replace(fault);
    }

    /// For the connections that are open; later ones are not touched.
    pub fn set_current(&self, fault: Fault) {
        for connection in &*self.current.lock() {
            connection.send_replace(fault);
        }
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        let mut current = self.current.lock();
        current.retain(|connection| !connection.is_closed());
        current.len()
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<Mutex<SocketAddr>>,
    for_new: Arc<watch::Sender<Fault>>,
    current: Arc<Mutex<Vec<watch::Sender<Fault>>>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => client,
                Err(_) => return,
            },
            Some(_) = connections.join_next() => continue,
        };
        let fault = *for_new.borrow();
        let (sender, receiver) = watch::channel(fault);
        let mut list = current.lock();
        list.retain(|connection: &watch::Sender<Fault>| !connection.is_closed());
        list.push(sender);
        drop(list);
        let target = *target.lock();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            relay(client, server, receiver).await;
        });
    }
}

/// Both directions, until one ends or the connection is to be reset.
async fn relay(client: TcpStream, server: TcpStream, fault: watch::Receiver<Fault>) {
    let mut reset = fault.clone();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (mut asks, mut answers) = (to_server, to_client);
    let ended = tokio::select! {
        _ = copy(from_client, &mut asks, fault.clone(), false) => false,
        _ = copy(from_server, &mut answers, fault, true) => false,
        found = reset.wait_for(|fault| *fault == Fault::Reset) => found.is_ok(),
    };
    if ended {
        // No farewell: the peer sees a reset instead of an orderly end.
        for half in [answers.as_ref(), asks.as_ref()] {
            let _ = half.set_zero_linger();
        }
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut fault: watch::Receiver<Fault>,
    answers: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        let now = *fault.borrow();
        match now {
            // A black hole swallows the farewell as well.
            Fault::BlackHole if read == 0 => std::future::pending().await,
            Fault::BlackHole => continue,
            Fault::SwallowAnswers if answers && read > 0 => continue,
            Fault::SwallowRequests if !answers && read > 0 => continue,
            Fault::Stall if answers => {
                // What was taken already comes when somebody listens again.
                let _ = fault.wait_for(|fault| *fault != Fault::Stall).await;
            }
            Fault::Delay(by) => tokio::time::sleep(by).await,
            _ => {}
        }
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
