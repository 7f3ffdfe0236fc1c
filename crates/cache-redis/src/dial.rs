//! Opening a connection: TCP, TLS, login, fingerprint, hello. Only then it is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use bb8_redis::redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, Value,
    cmd, pipe,
};
use cache_events::Partition;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{ConfigError, RedisConfig, Secret};
use crate::fault::Fault;
use crate::layout::Layout;
use crate::link::Link;
use crate::reply;
use crate::scripts::{Script, Scripts};
use crate::tls::Tls;

/// Commands that wait to be written to one connection before the next caller has to wait.
const WRITE_QUEUE: usize = 1024;
/// After so long without a sign of the peer the operating system gives a connection up, even if nobody uses it.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(5);

/// Receives what the server pushes. Must not block.
pub(crate) type PushSink = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// All that is needed to open connections of one deployment, and what they found out.
pub(crate) struct Dialer {
    pub(crate) config: RedisConfig,
    pub(crate) layout: Layout,
    pub(crate) scripts: Scripts,
    tls: Option<Tls>,
    /// The highest epoch seen, one for each partition. Epochs only grow, so a record of a lower one is dead, whatever
    /// connection it comes through.
    epochs: Box<[AtomicU64]>,
}

impl Dialer {
    pub(crate) fn new(config: RedisConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let tls = config.tls.as_ref().map(|tls| Tls::new(tls, &config.host)).transpose()?;
        Ok(Self {
            layout: Layout::new(&config.prefix, config.db, config.partitions),
            scripts: Scripts::new(&config),
            tls,
            epochs: (0..config.partitions).map(|_| AtomicU64::new(0)).collect(),
            config,
        })
    }

    pub(crate) fn epoch(&self, partition: Partition) -> u64 {
        self.epochs.get(partition.index()).map_or(0, |epoch| epoch.load(Ordering::Acquire))
    }

    pub(crate) fn saw_epoch(&self, partition: Partition, epoch: u64) {
        if let Some(known) = self.epochs.get(partition.index()) {
            known.fetch_max(epoch, Ordering::AcqRel);
        }
    }

    /// The call of a script that begins with the common prologue: keys and arguments that all of them share. `more` is
    /// the number of keys that follow; they are added before the arguments, by `keys`.
    pub(crate) fn begin(
        &self,
        script: &Script,
        partition: Partition,
        at: cache_events::Position,
        more: usize,
        keys: impl FnOnce(&mut Cmd),
    ) -> Cmd {
        let part = self.layout.part(partition);
        let mut cmd = script.call(2 + more);
        cmd.arg(&part.meta).arg(&part.log);
        keys(&mut cmd);
        cmd.arg(&part.channel).arg(partition.0).arg(at.epoch).arg(at.seq);
        cmd
    }

    /// Opens a connection that is ready for use: the deployment is ours and the epoch is known.
    pub(crate) async fn dial(&self, push: Option<PushSink>) -> Result<Link, Fault> {
        let wait = self.config.connect_timeout;
        let address = self.config.address();
        let opened = timeout(wait, self.open(push))
            .await
            .unwrap_or_else(|_| Err(Fault::NotDone(format!("no answer within {} ms", wait.as_millis()))));
        opened.map_err(|fault| fault.while_doing(&format!("connecting to Redis at {address}")))
    }

    async fn open(&self, push: Option<PushSink>) -> Result<Link, Fault> {
        let unreachable = |error: std::io::Error| Fault::NotDone(error.to_string());
        let tcp =
            TcpStream::connect((self.config.host.as_str(), self.config.port)).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let socket = SockRef::from(&tcp);
        let keepalive = TcpKeepalive::new().with_time(PEER_SILENCE_MAX).with_interval(Duration::from_secs(1));
        socket.set_tcp_keepalive(&keepalive).map_err(unreachable)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(PEER_SILENCE_MAX)).map_err(unreachable)?;
        match &self.tls {
            None => self.login(tcp, push).await,
            Some(tls) => {
                let stream = tls.connector.connect(tls.name.clone(), tcp).await;
                let stream = stream.map_err(|error| Fault::NotDone(format!("TLS: {error}")))?;
                self.login(stream, push).await
            }
        }
    }

    async fn login<S>(&self, stream: S, push: Option<PushSink>) -> Result<Link, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = &self.config;
        let mut info = RedisConnectionInfo::default().set_db(i64::from(config.db)).set_skip_set_lib_name();
        if let Some(user) = &config.username {
            info = info.set_username(user);
        }
        if let Some(password) = &config.password {
            info = info.set_password(password.expose());
        }
        // Time limits are set around each call, where they cover waiting in the queue as well.
        let mut settings = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(WRITE_QUEUE);
        if let Some(push) = push {
            info = info.set_protocol(ProtocolVersion::RESP3);
            settings = settings.set_push_sender(move |info: PushInfo| {
                push(info);
                Ok::<(), std::convert::Infallible>(())
            });
        }
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, settings)
            .await
            .map_err(|error| hide(Fault::of_connecting(&error), config.password.as_ref()))?;
        let link = Link::new(connection, driver);
        self.greet(&mut link.connection()).await?;
        Ok(link)
    }

    /// Compares the fingerprint and loads the scripts, then says hello to every partition.
    async fn greet(&self, connection: &mut MultiplexedConnection) -> Result<(), Fault> {
        let (key, ours) = (self.layout.fingerprint_key(), self.layout.fingerprint());
        let mut greeting = pipe();
        greeting.add_command(cmd("GET").arg(&key).to_owned());
        for script in self.scripts.all() {
            greeting.add_command(script.load()).ignore();
        }
        let mut theirs = ask(connection, &greeting).await?;
        if theirs.first() == Some(&Value::Nil) {
            // The first node, or the first after a loss. Not before looking: where nothing can be written (no memory,
            // too few replicas) connections still serve reads.
            let mut claim = pipe();
            claim.add_command(cmd("SET").arg(&key).arg(&ours).arg("NX").to_owned()).ignore();
            claim.add_command(cmd("GET").arg(&key).to_owned());
            theirs = ask(connection, &claim).await?;
        }
        let theirs = theirs.first().and_then(reply::text).unwrap_or_default();
        if theirs != ours {
            return Err(Fault::Fenced(format!(
                "{key} says {:?}, this node says {ours:?}: another deployment uses this prefix, or this one with other \
                 settings",
                theirs.chars().take(200).collect::<String>()
            )));
        }
        let mut hello = pipe();
        let partitions = self.layout.partitions();
        for partition in (0..partitions).map(Partition) {
            // At least the epoch that is known here: a server that is behind it has lost history.
            let at = cache_events::Position::new(self.epoch(partition), 0);
            hello.add_command(self.begin(&self.scripts.hello, partition, at, 0, |_| {}));
        }
        let answers = ask(connection, &hello).await?;
        for (partition, answer) in (0..partitions).map(Partition).zip(answers) {
            let (head, _) =
                reply::head(&answer, 0).map_err(|_| Fault::NotDone("hello: no position".into()))?;
            self.saw_epoch(partition, head.epoch);
        }
        Ok(())
    }
}

/// Sends commands together. Of several errors the first counts: the others follow from it.
async fn ask(connection: &mut MultiplexedConnection, pipeline: &Pipeline) -> Result<Vec<Value>, Fault> {
    pipeline.query_async(connection).await.map_err(|error: RedisError| {
        match error.clone().into_server_errors().as_deref() {
            Some([(_, first), ..]) => Fault::of_connecting(&first.clone().into()),
            _ => Fault::of_connecting(&error),
        }
    })
}

/// No server quotes a password, but nothing says that none ever will.
fn hide(fault: Fault, secret: Option<&Secret>) -> Fault {
    let Some(secret) = secret.map(Secret::expose).filter(|secret| !secret.is_empty()) else { return fault };
    let hide = |message: String| message.replace(secret, "***");
    match fault {
        Fault::NotDone(message) => Fault::NotDone(hide(message)),
        Fault::Unknown(message) => Fault::Unknown(hide(message)),
        Fault::Refused(message) => Fault::Refused(hide(message)),
        Fault::Fenced(message) => Fault::Fenced(hide(message)),
    }
}
