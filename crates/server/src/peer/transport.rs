//! All peers together: who is a member, a link to each, and the way in for the node's messages.

use super::dial::{OwnUrls, Route};
use super::link::Link;
use super::snapshot;
use crate::config::{Address, duration, parse_url};
use crate::mailbox::Mailbox;
use crate::membership::Removal;
use crate::metrics::Metrics;
use crate::threads::apply::ApplyTask;
use crate::threads::queue::Sender;
use crate::threads::snapshots::SnapshotRoom;
use crate::tls::TlsDialer;
use parking_lot::Mutex;
use quorate_node::api::Input;
use quorate_proto::etcdserverpb::Member;
use quorate_proto::quoratepb::{PeerMessage, RaftMessage};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// What the transport is made of.
pub(crate) struct PeerConfig {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    /// Frames longer than this are refused, bytes.
    pub(crate) frame_bytes_max: usize,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) apply: Sender<ApplyTask>,
    pub(crate) snapshots: Arc<SnapshotRoom>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) dialer: Arc<TlsDialer>,
    /// Where connections between members are read and written: the node's own thread, so that a message wakes no other.
    pub(crate) runtime: Handle,
    /// Where snapshots are streamed, so that they keep the node from nothing.
    pub(crate) bulk_runtime: Handle,
    /// Where it is posted that others know this member as removed.
    pub(crate) removal: Arc<Removal>,
}

/// Members that this one does not know yet, at the most.
const REMOTES_MAX: usize = 16;

struct Peer {
    link: Arc<Link>,
    sending: AbortHandle,
    /// The task that reads the peer's connection to us; a newer connection replaces it.
    receiving: Option<AbortHandle>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.sending.abort();
        if let Some(receiving) = &self.receiving {
            receiving.abort();
        }
    }
}

struct Inner {
    config: PeerConfig,
    peers: Mutex<Peers>,
    own_urls: OwnUrls,
}

#[derive(Default)]
struct Peers {
    by_id: BTreeMap<u64, Peer>,
    /// Members that connected before the log told of them. Without a way back to them, a member whose table is old could
    /// never learn of the newer one from a leader that it does not know.
    remotes: BTreeMap<u64, Vec<Address>>,
    stopped: bool,
}

/// Cheap to share; every method may be called from any thread and none waits.
#[derive(Clone)]
pub(crate) struct Transport {
    inner: Arc<Inner>,
}

impl Transport {
    pub(crate) fn new(config: PeerConfig) -> Self {
        Self { inner: Arc::new(Inner { config, peers: Mutex::default(), own_urls: OwnUrls::default() }) }
    }

    pub(crate) fn config(&self) -> &PeerConfig {
        &self.inner.config
    }

    /// Follows the member table: links to new members open, those to removed ones close.
    pub(crate) fn refresh(&self, members: &[Member], is_removed: impl Fn(u64) -> bool) {
        let config = &self.inner.config;
        if let Some(own) = members.iter().find(|member| member.id == config.member_id) {
            self.inner.own_urls.set(&own.peer_ur_ls);
        }
        let wanted: BTreeMap<u64, Vec<Address>> = members
            .iter()
            .filter(|member| member.id != config.member_id)
            .map(|member| (member.id, member.peer_ur_ls.iter().filter_map(|url| parse_url(url).ok()).collect()))
            .collect();
        let mut peers = self.inner.peers.lock();
        if peers.stopped {
            return;
        }
        peers.remotes.retain(|id, _| !wanted.contains_key(id) && !is_removed(*id));
        let Peers { by_id, remotes, .. } = &mut *peers;
        by_id.retain(|id, _| {
            let stays = wanted.contains_key(id) || remotes.contains_key(id);
            if !stays {
                config.metrics.forget_peer(*id);
            }
            stays
        });
        for (id, addresses) in wanted {
            match by_id.get(&id) {
                Some(peer) => peer.link.set_addresses(addresses),
                None => {
                    by_id.insert(id, self.open(id, addresses));
                }
            }
        }
    }

    fn open(&self, id: u64, addresses: Vec<Address>) -> Peer {
        let config = &self.inner.config;
        let link = Arc::new(Link::new(id, addresses, config.mailbox.clone(), config.metrics.peer(id)));
        let running = link.clone().run(self.route(id), config.dialer.clone(), config.removal.clone());
        Peer { link, sending: config.runtime.spawn(running).abort_handle(), receiving: None }
    }

    /// Makes room for a member of the cluster that the table does not know yet; `false` when there is none, or no way to
    /// reach it.
    pub(crate) fn add_remote(&self, id: u64, urls: &str) -> bool {
        let addresses: Vec<Address> = urls.split(',').filter_map(|url| parse_url(url).ok()).collect();
        let mut peers = self.inner.peers.lock();
        if peers.by_id.contains_key(&id) {
            return true;
        }
        if addresses.is_empty() || peers.stopped || peers.remotes.len() >= REMOTES_MAX {
            return false;
        }
        let peer = self.open(id, addresses.clone());
        peers.by_id.insert(id, peer);
        peers.remotes.insert(id, addresses);
        true
    }

    /// Since when the connection to a member stands; `None`: it does not.
    pub(crate) fn active_since(&self, id: u64) -> Option<Instant> {
        self.link(id).and_then(|link| link.active_since())
    }

    /// Queues a message, which leaves with the next [`Self::flush`]; one to an unknown member is lost.
    pub(crate) fn send(&self, to: u64, message: &PeerMessage) {
        if let Some(link) = self.link(to) {
            link.send(message);
        }
    }

    /// Lets go what was queued.
    pub(crate) fn flush(&self) {
        for peer in self.inner.peers.lock().by_id.values() {
            peer.link.flush();
        }
    }

    /// Streams the snapshot that was made for this message.
    pub(crate) fn send_snapshot(&self, to: u64, message: RaftMessage) {
        let config = &self.inner.config;
        let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        let (Some(link), Some(built)) = (self.link(to), config.snapshots.built_at(index)) else {
            config.mailbox.post(Input::SnapshotSent { to, delivered: false });
            return;
        };
        let route = self.route(to);
        let (mailbox, metrics, dialer) = (config.mailbox.clone(), config.metrics.clone(), config.dialer.clone());
        config.bulk_runtime.spawn(async move {
            let transfer = link.counters().snapshots_sent.begin();
            let result = snapshot::send(&link.addresses(), &route, &dialer, &message, built).await;
            match &result {
                Ok(bytes) => {
                    let took = transfer.succeeded();
                    metrics.snapshot_seconds.observe(took.as_secs_f64());
                    tracing::info!(
                        "remote-peer-id" = format!("{to:x}"),
                        "applied-index" = index,
                        bytes,
                        took = duration::text(took),
                        "sent database snapshot"
                    );
                }
                Err(error) => tracing::warn!(
                    "remote-peer-id" = format!("{to:x}"),
                    error = error.to_string(),
                    "cannot send a snapshot"
                ),
            }
            mailbox.post(Input::SnapshotSent { to, delivered: result.is_ok() });
        });
    }

    /// The link to a member.
    pub(crate) fn link(&self, id: u64) -> Option<Arc<Link>> {
        self.inner.peers.lock().by_id.get(&id).map(|peer| peer.link.clone())
    }

    /// From here on `task` reads this member's messages; an older connection of it ends.
    pub(crate) fn replace_receiving(&self, from: u64, task: AbortHandle) {
        match self.inner.peers.lock().by_id.get_mut(&from) {
            Some(peer) => {
                if let Some(older) = peer.receiving.replace(task) {
                    older.abort();
                }
            }
            None => task.abort(),
        }
    }

    /// Closes everything.
    pub(crate) fn stop(&self) {
        let mut peers = self.inner.peers.lock();
        peers.stopped = true;
        peers.by_id.clear();
    }

    fn route(&self, to: u64) -> Route {
        let config = &self.inner.config;
        let own_urls = self.inner.own_urls.clone();
        Route { cluster_id: config.cluster_id, from: config.member_id, to, own_urls }
    }
}
