//! Where masters are, as Sentinels say it, and following them when they change.
//!
//! Two ways lead to a new master, for either may fail. Every connection to a master begins with the question where it
//! is; and one connection to a Sentinel hears of switches (`+switch-master`) and then ends all links to where the master
//! no longer is. A Sentinel that is wrong (cut off from the others) leads to a server that refuses the hello, since that
//! is a write; the next question goes to another Sentinel.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bb8_redis::redis::{self, PushInfo, PushKind, Value};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::dial::{Dialer, Pushed};
use crate::fault::Fault;
use crate::link::{Link, WeakLink};
use crate::reply;
use crate::topology::{Endpoint, SentinelConfig};

/// What one Sentinel may take to answer: there are others.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// How often the Sentinel that tells of switches must prove that it is alive.
const PING_EVERY: Duration = Duration::from_secs(1);
/// Pause before another Sentinel is listened to.
const RETRY: Duration = Duration::from_millis(250);
/// The channel of switches: `name old-host old-port new-host new-port`.
const SWITCHES: &str = "+switch-master";
/// Switches that wait to be carried out; beyond that all masters are looked up.
const SWITCHES_MAX: usize = 64;

pub(crate) struct Sentinels {
    pub(crate) config: SentinelConfig,
    /// Which of them is asked first.
    first: AtomicUsize,
    /// The links to each master.
    links: Mutex<Vec<(usize, WeakLink)>>,
}

impl Sentinels {
    pub(crate) fn new(config: SentinelConfig) -> Self {
        Self { config, first: AtomicUsize::new(0), links: Mutex::default() }
    }

    /// The Sentinels, the one that is asked first in front.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Endpoint> {
        let all = &self.config.sentinels;
        let first = self.first.load(Ordering::Relaxed);
        (0..all.len()).map(move |at| &all[(first + at) % all.len()])
    }

    /// What was told did not work: the next question goes to another one.
    pub(crate) fn doubt(&self) {
        self.first.fetch_add(1, Ordering::Relaxed);
    }

    /// Where a master is.
    pub(crate) async fn resolve(&self, dialer: &Dialer, master: usize) -> Result<Endpoint, Fault> {
        let name = &self.config.masters[master];
        let mut why = Fault::NotDone("there is no Sentinel".into());
        for sentinel in self.in_order() {
            let asked = timeout(ANSWER_MAX, async {
                let link = dialer.dial_sentinel(sentinel, &self.config, None).await?;
                where_is(&link, name).await
            });
            match asked.await {
                Ok(Ok(endpoint)) => return Ok(endpoint),
                Ok(Err(fault)) => why = fault,
                Err(_) => why = Fault::NotDone(format!("Sentinel {sentinel} does not answer")),
            }
        }
        self.doubt();
        Err(why.while_doing(&format!("asking where {name} is")))
    }

    /// Remembers a link to a master, to end it when the master is elsewhere.
    pub(crate) fn note(&self, master: usize, link: &Link) {
        let mut links = self.links.lock();
        links.retain(|(_, link)| link.upgrade().is_some());
        links.push((master, link.downgrade()));
    }

    /// Ends the links to where a master no longer is.
    fn is_at(&self, master: usize, endpoint: &Endpoint) {
        let links = self.links.lock();
        let of_master = links.iter().filter(|(of, _)| *of == master);
        for link in of_master.filter_map(|(_, link)| link.upgrade()) {
            if link.peer() != endpoint {
                tracing::info!(from = %link.peer(), to = %endpoint, "a master has moved");
                link.give_up();
            }
        }
    }
}

/// Asks a Sentinel for a master.
pub(crate) async fn where_is(link: &Link, name: &str) -> Result<Endpoint, Fault> {
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let answer = link.send(&ask).await.map_err(|error| Fault::of_connecting(&error))?;
    let Value::Array(pair) = &answer else {
        return Err(Fault::NotDone(format!("the Sentinel knows no master {name}")));
    };
    match (pair.first().and_then(reply::text), pair.get(1).and_then(reply::number)) {
        (Some(host), Some(port)) => Ok(Endpoint::new(host, u16::try_from(port).unwrap_or_default())),
        _ => Err(reply::odd("get-master-addr-by-name")),
    }
}

/// Listens to one Sentinel after the other, for ever.
pub(crate) async fn listen(dialer: Arc<Dialer>) {
    let Some(sentinels) = &dialer.sentinels else { return };
    loop {
        for sentinel in sentinels.in_order() {
            if let Err(why) = hear(&dialer, sentinels, sentinel).await {
                tracing::debug!(%sentinel, %why, "a Sentinel does not tell of switches any more");
            }
        }
        sleep(RETRY).await;
    }
}

/// Listens to a Sentinel for as long as it answers.
async fn hear(dialer: &Dialer, sentinels: &Sentinels, sentinel: &Endpoint) -> Result<(), Fault> {
    let (push, mut switches) = mpsc::channel(SWITCHES_MAX);
    let sink = move |info: PushInfo| {
        if info.kind == PushKind::Message {
            // One that is lost is made up for by the look at all masters with the next PING.
            let _ = push.try_send(info.data.get(1).and_then(reply::text).unwrap_or_default().to_owned());
        }
    };
    let link = dialer
        .dial_sentinel(sentinel, &sentinels.config, Some(Pushed { hints: None, told: Arc::new(sink) }))
        .await?;
    let gone = |error: &redis::RedisError| Fault::of_connecting(error);
    let subscribed = timeout(ANSWER_MAX, link.connection().subscribe(SWITCHES)).await;
    subscribed.map_err(|_| Fault::NotDone("no answer".into()))?.map_err(|error| gone(&error))?;
    loop {
        // What was switched before anybody listened, and whether the Sentinel still answers.
        for (master, name) in sentinels.config.masters.iter().enumerate() {
            let told = timeout(ANSWER_MAX, where_is(&link, name)).await;
            let endpoint = told.map_err(|_| Fault::NotDone("no answer".into()))??;
            sentinels.is_at(master, &endpoint);
        }
        if let Ok(Some(switch)) = timeout(PING_EVERY, switches.recv()).await {
            let mut words = switch.split(' ');
            let master = words
                .next()
                .and_then(|name| sentinels.config.masters.iter().position(|master| master == name));
            let (host, port) = (words.nth(2), words.next().and_then(|port| port.parse().ok()));
            if let (Some(master), Some(host), Some(port)) = (master, host, port) {
                sentinels.is_at(master, &Endpoint::new(host, port));
            }
        }
    }
}
