//! Opening a connection: TCP, TLS, login, fingerprint, hello. Only then it is used.
//!
//! To one server, and to a master that Sentinels name, hello is said to all its partitions at once. A node of a Cluster
//! gains and loses partitions while the connection lasts: there hello is said to each before its first command.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use bb8_redis::redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo,
    RedisError, Value, cmd, pipe,
};
use cache_events::Partition;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{ConfigError, RedisConfig, Secret};
use crate::fault::Fault;
use crate::layout::Layout;
use crate::link::Link;
use crate::scripts::{Script, Scripts};
use crate::sentinels::Sentinels;
use crate::slots::Slots;
use crate::tap::{HintSink, Tap};
use crate::tls::Tls;
use crate::topology::{Endpoint, SentinelConfig, Topology};
use crate::{placement, reply};

/// Commands that wait to be written to one connection before the next caller has to wait.
const WRITE_QUEUE: usize = 1024;
/// After so long without a sign of the peer the operating system gives a connection up, even if nobody uses it.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(5);

/// Receives what the server pushes. Must not block.
pub(crate) type PushSink = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// Who gets what the server pushes.
pub(crate) struct Pushed {
    /// The payloads of messages; if `None`, they go to `told` like all else.
    pub(crate) hints: Option<HintSink>,
    pub(crate) told: PushSink,
}

impl Pushed {
    fn hear(&self, info: PushInfo) {
        match (&info.kind, &self.hints) {
            // Where the tap left it to the client.
            (PushKind::Message | PushKind::SMessage, Some(sink)) => {
                if let Some(Value::BulkString(payload)) = info.data.into_iter().nth(1) {
                    sink(payload.into());
                }
            }
            _ => (self.told)(info),
        }
    }
}

/// All that is needed to open connections of one deployment, and what they found out.
pub(crate) struct Dialer {
    pub(crate) config: RedisConfig,
    pub(crate) layout: Layout,
    pub(crate) scripts: Scripts,
    tls: Option<Tls>,
    /// Where masters are, if that changes.
    pub(crate) sentinels: Option<Sentinels>,
    /// Which node of the Cluster has which partition.
    pub(crate) slots: Option<Slots>,
    /// Which of the masters has a partition, where there are several.
    placed: Box<[usize]>,
    /// The highest epoch seen, one for each partition. Epochs only grow, so a record of a lower one is dead, whatever
    /// connection it comes through.
    epochs: Box<[AtomicU64]>,
    pub(crate) tally: Tally,
}

/// What connections came to, since the start.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) opened: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Commands that got no answer in time.
    pub(crate) unanswered: AtomicU64,
}

impl Tally {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Dialer {
    pub(crate) fn new(config: RedisConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let tls = config.tls.as_ref().map(Tls::new).transpose()?;
        if let (Some(tls), Topology::Standalone) = (&tls, &config.topology) {
            tls.name(&config.host)?;
        }
        let (sentinels, slots, placed) = match &config.topology {
            Topology::Standalone => (None, None, Box::default()),
            Topology::Sentinel(sentinel) => {
                let placed = placement::place(&sentinel.masters, config.partitions);
                (Some(Sentinels::new(sentinel.clone())), None, placed)
            }
            Topology::Cluster(nodes) => {
                (None, Some(Slots::new(nodes.clone(), config.partitions)), Box::default())
            }
        };
        Ok(Self {
            layout: Layout::new(&config),
            scripts: Scripts::new(&config),
            tls,
            sentinels,
            slots,
            placed,
            epochs: (0..config.partitions).map(|_| AtomicU64::new(0)).collect(),
            tally: Tally::default(),
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

    /// The masters that are known by a fixed name; none in a Cluster.
    pub(crate) fn masters(&self) -> Vec<Target> {
        match &self.config.topology {
            Topology::Standalone => vec![Target::Node(self.config.endpoint())],
            Topology::Sentinel(sentinel) => (0..sentinel.masters.len()).map(Target::Master).collect(),
            Topology::Cluster(_) => Vec::new(),
        }
    }

    /// The index in [`masters`](Self::masters) of the one that has a partition.
    pub(crate) fn placed(&self, partition: Partition) -> usize {
        self.placed.get(partition.index()).copied().unwrap_or_default()
    }

    /// The partitions to which a new connection says hello.
    fn partitions_of(&self, target: &Target) -> Vec<Partition> {
        let all = (0..self.layout.partitions()).map(Partition);
        match target {
            Target::Node(_) if self.slots.is_some() => Vec::new(),
            Target::Node(_) => all.collect(),
            Target::Master(master) => all.filter(|&partition| self.placed(partition) == *master).collect(),
        }
    }

    /// Opens a connection that is ready for use: the deployment is ours and the epochs are known (in a Cluster after
    /// [`greet`](Self::greet)).
    pub(crate) async fn dial(&self, target: &Target, pushed: Option<Pushed>) -> Result<Link, Fault> {
        let peer = match (target, &self.sentinels) {
            (Target::Node(endpoint), _) => endpoint.clone(),
            (Target::Master(master), Some(sentinels)) => sentinels.resolve(self, *master).await?,
            (Target::Master(_), None) => return Err(Fault::NotDone("there is no Sentinel".into())),
        };
        let opened = self.limited(&peer, async {
            let link = self.connect(&peer, pushed).await?;
            self.load_scripts(&link).await?;
            let partitions = self.partitions_of(target);
            if !partitions.is_empty() {
                self.check_fingerprint(&link, partitions[0], false).await?;
                self.hello(&link, &partitions, false).await?;
            }
            Ok(link)
        });
        match (opened.await, &self.sentinels, target) {
            (Ok(link), Some(sentinels), Target::Master(master)) => {
                // What was told may have changed meanwhile.
                sentinels.note(*master, &link);
                Ok(link)
            }
            (Ok(link), _, _) => Ok(link),
            (Err(fault), Some(sentinels), _) => {
                sentinels.doubt();
                Err(fault.while_masters_change())
            }
            (Err(fault), None, _) if self.slots.is_some() => Err(fault.while_masters_change()),
            (Err(fault), _, _) => Err(fault),
        }
    }

    /// Opens a connection and logs in. Nothing is known of the data behind it.
    pub(crate) async fn dial_bare(&self, peer: &Endpoint) -> Result<Link, Fault> {
        self.limited(peer, self.connect(peer, None)).await
    }

    /// Opens a connection to a Sentinel.
    pub(crate) async fn dial_sentinel(
        &self,
        peer: &Endpoint,
        sentinel: &SentinelConfig,
        pushed: Option<Pushed>,
    ) -> Result<Link, Fault> {
        let login =
            Login { db: 0, username: sentinel.username.as_deref(), password: sentinel.password.as_ref() };
        self.limited(peer, self.connect_as(peer, login, pushed)).await
    }

    async fn limited(
        &self,
        peer: &Endpoint,
        opening: impl Future<Output = Result<Link, Fault>>,
    ) -> Result<Link, Fault> {
        let wait = self.config.connect_timeout;
        let opened = timeout(wait, opening)
            .await
            .unwrap_or_else(|_| Err(Fault::NotDone(format!("no answer within {} ms", wait.as_millis()))));
        Tally::count(if opened.is_ok() { &self.tally.opened } else { &self.tally.failed });
        opened.map_err(|fault| fault.while_doing(&format!("connecting to Redis at {peer}")))
    }

    async fn connect(&self, peer: &Endpoint, pushed: Option<Pushed>) -> Result<Link, Fault> {
        let config = &self.config;
        let login = Login {
            db: i64::from(config.db),
            username: config.username.as_deref(),
            password: config.password.as_ref(),
        };
        self.connect_as(peer, login, pushed).await
    }

    async fn connect_as(
        &self,
        peer: &Endpoint,
        login: Login<'_>,
        pushed: Option<Pushed>,
    ) -> Result<Link, Fault> {
        let unreachable = |error: std::io::Error| Fault::NotDone(error.to_string());
        let tcp = TcpStream::connect((peer.host.as_str(), peer.port)).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let socket = SockRef::from(&tcp);
        let keepalive = TcpKeepalive::new().with_time(PEER_SILENCE_MAX).with_interval(Duration::from_secs(1));
        socket.set_tcp_keepalive(&keepalive).map_err(unreachable)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(PEER_SILENCE_MAX)).map_err(unreachable)?;
        match &self.tls {
            None => self.login(peer, tcp, login, pushed).await,
            Some(tls) => {
                let name = tls.name(&peer.host).map_err(|error| Fault::NotDone(error.to_string()))?;
                let stream = tls.connector.connect(name, tcp).await;
                let stream = stream.map_err(|error| Fault::NotDone(format!("TLS: {error}")))?;
                self.login(peer, stream, login, pushed).await
            }
        }
    }

    async fn login<S>(
        &self,
        peer: &Endpoint,
        stream: S,
        login: Login<'_>,
        pushed: Option<Pushed>,
    ) -> Result<Link, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut info = RedisConnectionInfo::default().set_db(login.db).set_skip_set_lib_name();
        if let Some(user) = login.username {
            info = info.set_username(user);
        }
        if let Some(password) = login.password {
            info = info.set_password(password.expose());
        }
        // Time limits are set around each call, where they cover waiting in the queue as well.
        let mut settings = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(WRITE_QUEUE);
        let mut sink = None;
        if let Some(pushed) = pushed {
            sink = pushed.hints.clone();
            info = info.set_protocol(ProtocolVersion::RESP3);
            settings = settings.set_push_sender(move |info: PushInfo| {
                pushed.hear(info);
                Ok::<(), std::convert::Infallible>(())
            });
        }
        let stream = Tap::new(stream, sink);
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, settings)
            .await
            .map_err(|error| hide(Fault::of_connecting(&error), login.password))?;
        Ok(Link::new(peer.clone(), self.layout.partitions(), connection, driver))
    }

    async fn load_scripts(&self, link: &Link) -> Result<(), Fault> {
        let mut loading = pipe();
        for script in self.scripts.all() {
            loading.add_command(script.load()).ignore();
        }
        ask(link, &loading).await.map(drop)
    }

    /// Says hello to one partition of a Cluster, on a connection to the node that has it. `asking`: that is still
    /// taking it over.
    pub(crate) async fn greet(&self, link: &Link, partition: Partition, asking: bool) -> Result<(), Fault> {
        self.check_fingerprint(link, partition, asking).await?;
        self.hello(link, &[partition], asking).await?;
        link.set_greeted(partition, true);
        Ok(())
    }

    /// Compares the fingerprint. The first node, or the first after a loss, leaves its own.
    async fn check_fingerprint(&self, link: &Link, partition: Partition, asking: bool) -> Result<(), Fault> {
        let (key, ours) = (&self.layout.part(partition).fingerprint, self.layout.fingerprint());
        let get = cmd("GET").arg(key).to_owned();
        let mut theirs = match asked(link, &get, asking).await {
            // It moves with its slot, and is not of interest enough to be followed.
            Err(Fault::Ask(_)) => return Ok(()),
            theirs => theirs?,
        };
        if theirs == Value::Nil && asking {
            // Written here, it would be in the way of the one that is still to come.
            return Ok(());
        }
        if theirs == Value::Nil {
            // Not before looking: where nothing can be written (no memory, too few replicas) connections still serve
            // reads.
            let set = cmd("SET").arg(key).arg(ours).arg("NX").to_owned();
            for step in [&set, &get] {
                theirs = match asked(link, step, asking).await {
                    Err(Fault::Ask(_)) => return Ok(()),
                    theirs => theirs?,
                };
            }
        }
        let theirs = reply::text(&theirs).unwrap_or_default();
        if theirs == ours {
            return Ok(());
        }
        Err(Fault::Fenced(format!(
            "{key} says {:?}, this node says {ours:?}: another deployment uses this prefix, or this one with other \
             settings",
            theirs.chars().take(200).collect::<String>()
        )))
    }

    /// Learns the epochs of partitions.
    async fn hello(&self, link: &Link, partitions: &[Partition], asking: bool) -> Result<(), Fault> {
        let mut hello = pipe();
        for &partition in partitions {
            // At least the epoch that is known here: a server that is behind it has lost history.
            let at = cache_events::Position::new(self.epoch(partition), 0);
            if asking {
                hello.add_command(cmd("ASKING")).ignore();
            }
            hello.add_command(self.begin(&self.scripts.hello, partition, at, 0, |_| {}));
        }
        let answers = ask(link, &hello).await?;
        for (&partition, answer) in partitions.iter().zip(answers) {
            let (head, _) =
                reply::head(&answer, 0).map_err(|_| Fault::NotDone("hello: no position".into()))?;
            self.saw_epoch(partition, head.epoch);
        }
        Ok(())
    }
}

/// Whom to call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A server at a fixed place.
    Node(Endpoint),
    /// Whoever the Sentinels say is this master.
    Master(usize),
}

/// As whom.
struct Login<'a> {
    db: i64,
    username: Option<&'a str>,
    password: Option<&'a Secret>,
}

/// Sends one command of a greeting.
async fn asked(link: &Link, command: &Cmd, asking: bool) -> Result<Value, Fault> {
    let answer = if asking { link.send_behind("ASKING", command).await } else { link.send(command).await };
    answer.map_err(|error| Fault::of_connecting(&error))
}

/// Sends commands together. Of several errors the first counts: the others follow from it.
async fn ask(link: &Link, pipeline: &Pipeline) -> Result<Vec<Value>, Fault> {
    pipeline.query_async(&mut link.connection()).await.map_err(|error: RedisError| {
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
        other => other,
    }
}
