//! From a [`Config`] to a running member and to its end.
//!
//! Owns the order: folders and their lock, store, log, threads, listeners, readiness; and backwards at a stop. The
//! invariant: nothing listens before the data is open and verified, and the process that stops gracefully has told its
//! callers, handed over its leadership and written everything.

use crate::api::{ClientSurface, ClusterView, PortSettings};
use crate::auth::Authenticator;
use crate::backend::{Backend, BackendParts, Clock, Identity, Limits, StatusBoard};
use crate::cluster_version;
use crate::compactor;
use crate::config::{Address, Config, InitialClusterState, duration};
use crate::connection::Traffic;
use crate::discovery;
use crate::disk::{Durability, RealDisk};
use crate::http::{DebugPages, watching};
use crate::integrity;
use crate::join;
use crate::listen::{Listener, ReusePort, accept_clients, bind_all};
use crate::logging::FATAL;
use crate::mailbox::Mailbox;
use crate::member_ids::{cluster_id, member_id};
use crate::membership::log_own_removal;
use crate::metrics::Metrics;
use crate::peer::{self, PeerConfig, Transport};
use crate::quota_watch;
use crate::shutdown::{StopSignals, die};
use crate::spans::{self, Tracer};
use crate::threads::apply::{ApplyTask, ApplyThread};
use crate::threads::disk::DiskTask;
use crate::threads::node::NodeThread;
use crate::threads::snapshots::SnapshotRoom;
use crate::threads::{self, TASKS_MAX};
use crate::tls::{Endpoint, Security, TlsAcceptor, TlsDialer};
use crate::v2;
use crate::waiting::{COMMANDS_MAX, Waiting};
use anyhow::{Context, bail, ensure};
use quorate_folder::layout::{REVISION_LOG, WAL_SEGMENT_BYTES};
use quorate_folder::lock::lock_folder;
use quorate_node::Node;
use quorate_node::api::{Input, NodeConfig, NodeStatus, StorePoint};
use quorate_node::wal::{self, Wal, WalConfig};
use quorate_proto::etcdserverpb::Member;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{ConfState, MemberPublish};
use quorate_store::disk::Disk;
use quorate_store::quota::Quota;
use quorate_store::reader::StoreStats;
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use std::fs::File;
use std::io::IsTerminal;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, watch};

/// Commands joined into one raft entry, bytes, unless one command alone is larger.
const ENTRY_BYTES: usize = 1 << 20;
/// What a request may grow by on its way into the log, bytes.
const ENTRY_OVERHEAD_BYTES: usize = 512 << 10;
/// Log kept in memory for followers that lag, bytes.
const LOG_BYTES_MAX: usize = 16 << 20;
/// How long a command waits for a leader, ms.
const LEADERLESS_MS_MAX: u64 = 5_000;
/// Connections of clients at the most; more wait to be accepted.
const CLIENT_CONNECTIONS_MAX: usize = 65_536;
/// Helper threads (name resolution, snapshots, hashes) at the most.
const BLOCKING_THREADS_MAX: usize = 16;
/// Pause before something that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long a leader that stops waits for its successor.
const HAND_OVER_WAIT: Duration = Duration::from_millis(600);
/// How often a leader that stops looks whether anybody is left.
const CONNECTED_LOOK: Duration = Duration::from_millis(10);
/// How long a member goes on that was removed, as in etcd.
const REMOVED_WAIT: Duration = Duration::from_secs(1);
/// How long open connections get to end.
const CONNECTIONS_WAIT: Duration = Duration::from_millis(200);
/// A stop that takes longer than this ends without its last checkpoint: the log has everything.
const STOP_TIMEOUT: Duration = Duration::from_millis(1_400);

/// Runs a member until it is stopped; the exit code.
pub fn run(config: Config, greeting: Greeting) -> i32 {
    let network = threads::spawn("network", move || {
        if let Err(error) = serve(config, greeting) {
            tracing::error!(target: FATAL, error = format!("{error:#}"), "cannot start");
            std::process::exit(1);
        }
    });
    match network.map(JoinHandle::join) {
        Ok(Ok(())) => 0,
        _ => 1,
    }
}

/// Whether a person who started the server at a terminal is told what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Two lines on a terminal's standard output.
    OnTerminal,
    /// Nothing beside the log: called as etcd.
    Silent,
}

fn serve(config: Config, greeting: Greeting) -> anyhow::Result<()> {
    log_settings(&config);
    let tls = load_tls(&config)?;
    let _locks = lock_folders(&config)?;
    let watched = &config.operability;
    let metrics = Arc::new(Metrics::with_detail(watched.metrics, watched.features));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .context("cannot start the network runtime")?;
    let data = open_data(&config, &metrics, &runtime, &tls.dialer)?;
    let handle = runtime.handle().clone();
    runtime.block_on(run_member(config, data, tls, metrics, handle, greeting))
}

fn log_settings(config: &Config) {
    for note in &config.notes {
        if note.is_warning {
            tracing::warn!(subject = note.subject.as_str(), "{}", note.text);
        } else {
            tracing::info!(subject = note.subject.as_str(), "{}", note.text);
        }
    }
    let milliseconds = |count| duration::text(Duration::from_millis(count));
    let member =
        |(name, urls): (&String, &Vec<String>)| urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>();
    let members: Vec<String> = config.initial_cluster.iter().flat_map(member).collect();
    let state = match config.initial_cluster_state {
        InitialClusterState::New => "new",
        InitialClusterState::Existing => "existing",
    };
    let urls = |list: &[Address]| list.iter().map(Address::to_string).collect::<Vec<_>>().join(",");
    tracing::info!(
        "quorate-version" = crate::version::QUORATE,
        "etcd-version" = crate::version::ETCD,
        name = config.name.as_str(),
        "data-dir" = config.data_dir.display().to_string(),
        "wal-dir" = config.wal_dir.as_deref().map(|folder| folder.display().to_string()).unwrap_or_default(),
        "member-initialized" = config.data_dir.join("member").is_dir(),
        "heartbeat-interval" = milliseconds(config.heartbeat_interval_ms),
        "election-timeout" = milliseconds(config.election_timeout_ms),
        "snapshot-count" = config.snapshot_count,
        "snapshot-catchup-entries" = config.operability.snapshot_catchup_entries,
        "max-request-bytes" = config.max_request_bytes as u64,
        "max-txn-ops" = config.max_txn_ops as u64,
        "max-concurrent-streams" = config.connection.concurrent_streams_max,
        "quota-backend-bytes" = config.quota_bytes,
        "initial-advertise-peer-urls" = config.initial_advertise_peer_urls.join(","),
        "listen-peer-urls" = urls(&config.listen_peer_urls),
        "advertise-client-urls" = config.advertise_client_urls.join(","),
        "listen-client-urls" = urls(&config.listen_client_urls),
        "listen-client-http-urls" = urls(&config.listen_client_http_urls),
        "initial-cluster" = members.join(","),
        "initial-cluster-state" = state,
        "initial-cluster-token" = config.initial_cluster_token.as_str(),
        "v2-deprecation" = "write-only",
        "force-new-cluster" = config.force_new_cluster,
        "max-learners" = config.max_learners as u64,
        "unsafe-no-fsync" = config.unsafe_no_fsync,
        "starting an etcd server"
    );
    if config.unsafe_no_fsync {
        tracing::warn!("syncs are left out (--unsafe-no-fsync): a crash of the machine loses acknowledged writes");
    }
}

/// What listeners and connections to members need for TLS.
struct Tls {
    clients: Option<Arc<TlsAcceptor>>,
    metrics: Option<Arc<TlsAcceptor>>,
    peers: Option<Arc<TlsAcceptor>>,
    dialer: Arc<TlsDialer>,
}

/// Reads certificates and what belongs to them: before the data is touched, for whatever is wrong with them ends the start.
fn load_tls(config: &Config) -> anyhow::Result<Tls> {
    let acceptor = |endpoint, addresses: &[Address], settings| {
        let is_asked_for = addresses.iter().any(|address| matches!(address.scheme.as_str(), "https" | "unixs"));
        is_asked_for.then(|| TlsAcceptor::new(endpoint, settings).map(Arc::new)).transpose()
    };
    let suites = config.peer_tls.cipher_suites.join(",");
    if !config.peer_tls.is_empty() {
        let info = config.peer_tls.to_string();
        tracing::info!("tls-info" = info, "cipher-suites" = suites, "starting with peer TLS");
    }
    let peers = acceptor(Endpoint::Peer, &config.listen_peer_urls, &config.peer_tls).context("peer TLS")?;
    let dialer = Arc::new(TlsDialer::new(&config.peer_tls).context("peer TLS")?);
    if !config.client_tls.is_empty() {
        let info = config.client_tls.to_string();
        tracing::info!("tls-info" = info, "cipher-suites" = suites, "starting with client TLS");
    }
    let for_clients = [&config.listen_client_urls[..], &config.listen_client_http_urls].concat();
    let clients = acceptor(Endpoint::Client, &for_clients, &config.client_tls).context("client TLS")?;
    let metrics = acceptor(Endpoint::Metrics, &config.operability.listen_metrics_urls, &config.client_tls)
        .context("client TLS")?;
    Ok(Tls { clients, metrics, peers, dialer })
}

fn durability(config: &Config) -> Durability {
    if config.unsafe_no_fsync { Durability::Unsynced } else { Durability::Synced }
}

/// Creates the folders and keeps every other process out of them while the answer lives.
fn lock_folders(config: &Config) -> anyhow::Result<Vec<File>> {
    let mut locks = vec![lock_folder(&config.data_dir.join("member"), durability(config))?];
    if let Some(folder) = &config.wal_dir {
        locks.push(lock_folder(folder, durability(config))?);
    }
    Ok(locks)
}

struct Data {
    store: Store,
    wal: Wal,
    recovered: wal::Recovered,
    identity: wal::Identity,
    initial_members: Vec<Member>,
}

/// Opens store and log, or makes them for a new member.
fn open_data(config: &Config, metrics: &Metrics, runtime: &Runtime, dialer: &TlsDialer) -> anyhow::Result<Data> {
    let member_folder = config.data_dir.join("member");
    let wal_root = config.wal_dir.as_deref().unwrap_or(&member_folder);
    let member_disk: Arc<dyn Disk> = Arc::new(RealDisk::new(&member_folder, durability(config)));
    let wal_disk: Arc<dyn Disk> =
        Arc::new(RealDisk::new(wal_root, durability(config)).timed(metrics.wal_times.clone()));
    let wal_folder = "wal";
    let kept_identity = Wal::identity_of(&*wal_disk, wal_folder).context("cannot read the log's first segment")?;
    let has_wal = kept_identity.is_some();
    let has_store = member_disk.list("store").context("cannot list the store's folder")?.iter().any(|f| f == "CURRENT");
    let mut bootstrap = Bootstrap::default();
    let mut identity = kept_identity.unwrap_or_default();
    if !has_wal {
        let found = discovery::find_members(config, runtime, dialer)?;
        (identity, bootstrap) = match config.initial_cluster_state {
            InitialClusterState::New => begin_cluster(&found, runtime, dialer)?,
            InitialClusterState::Existing => join_cluster(&found, runtime, dialer)?,
        };
    } else if !has_store {
        bail!(
            "{} has a log but no store: one of the folders was removed. Restore it, or remove this member from the \
             cluster and add it again with an empty data folder",
            config.data_dir.display()
        );
    }
    let store_config = StoreConfig { revlog: REVISION_LOG };
    let initial_members = bootstrap.members.clone();
    let opened = match config.force_new_cluster {
        true => Store::open(member_disk, "store", store_config, bootstrap),
        false => Store::open_to_repair(member_disk, "store", store_config, bootstrap),
    };
    let store = opened.with_context(|| format!("in {}", member_folder.display()))?;
    ensure!(
        has_wal || store.position().applied_index == 0,
        "{} has a store but no log: one of the folders was removed. Restore it, or remove this member from the cluster \
         and add it again with an empty data folder",
        config.data_dir.display()
    );
    let wal_config = WalConfig { segment_bytes: WAL_SEGMENT_BYTES, sync: !config.unsafe_no_fsync };
    let in_wal_root = || format!("in {}", wal_root.display());
    let (mut wal, mut recovered) = Wal::open(wal_disk, wal_folder, wal_config, identity).with_context(in_wal_root)?;
    recovered.check(wal_folder, store.position().applied_index).with_context(in_wal_root)?;
    if config.force_new_cluster && has_wal {
        force_new_cluster(&store, &mut wal, &mut recovered, identity).context("--force-new-cluster")?;
    }
    Ok(Data { store, wal, recovered, identity, initial_members })
}

/// What `--bootstrap-defrag-threshold-megabytes` comes to: free space is given back by itself.
fn tell_defragmentation(threshold_megabytes: u64, stats: &StoreStats) {
    if threshold_megabytes > 0 {
        tracing::info!(
            "current-db-size-bytes" = stats.disk_bytes,
            "current-db-size-in-use-bytes" = stats.live_bytes,
            "bootstrap-defrag-threshold-bytes" = threshold_megabytes.saturating_mul(1 << 20),
            "Skipping defragmentation"
        );
    }
}

/// A new cluster of the members that the settings name.
fn begin_cluster(config: &Config, runtime: &Runtime, dialer: &TlsDialer) -> anyhow::Result<(wal::Identity, Bootstrap)> {
    if let Err(reason) = config.verify_bootstrap() {
        bail!(reason);
    }
    let members: Vec<Member> = config
        .initial_cluster
        .iter()
        .map(|(name, urls)| Member {
            id: member_id(urls, &config.initial_cluster_token),
            name: name.clone(),
            peer_ur_ls: urls.clone(),
            ..Member::default()
        })
        .collect();
    let mut voters: Vec<u64> = members.iter().map(|member| member.id).collect();
    voters.sort_unstable();
    let own = members.iter().find(|member| member.name == config.name).expect("verify_bootstrap checked it");
    let identity = wal::Identity { cluster_id: cluster_id(&voters), member_id: own.id };
    runtime.block_on(join::check_new(config, dialer, own.id, identity.cluster_id))?;
    Ok((identity, Bootstrap { members, conf_state: ConfState { voters, ..ConfState::default() } }))
}

/// A member of a cluster that runs: it knows the others, and has nothing of the log.
fn join_cluster(config: &Config, runtime: &Runtime, dialer: &TlsDialer) -> anyhow::Result<(wal::Identity, Bootstrap)> {
    let (cluster, member_id) = runtime.block_on(join::join(config, dialer))?;
    tracing::info!(
        "local-member-id" = format!("{member_id:x}"),
        "cluster-id" = format!("{:x}", cluster.id),
        "joining a running cluster"
    );
    let identity = wal::Identity { cluster_id: cluster.id, member_id };
    Ok((identity, Bootstrap { members: cluster.members, conf_state: ConfState::default() }))
}

/// Leaves this member alone with its data.
fn force_new_cluster(
    store: &Store,
    wal: &mut Wal,
    recovered: &mut wal::Recovered,
    identity: wal::Identity,
) -> anyhow::Result<()> {
    let forced = quorate_node::force_new_cluster(identity.member_id, recovered, &store_point(store));
    match forced.map_err(|reason| anyhow::anyhow!(reason))? {
        None => tracing::info!("--force-new-cluster: this member is alone already"),
        Some(persist) => {
            wal.append(&[persist])?;
            tracing::warn!(
                "cluster-id" = format!("{:x}", identity.cluster_id),
                "local-member-id" = format!("{:x}", identity.member_id),
                "commit-index" = recovered.hard_state.commit,
                "forced a new cluster of this member alone; the others' folders must not be started again"
            );
        }
    }
    Ok(())
}

/// Where the store stands, for the node.
fn store_point(store: &Store) -> StorePoint {
    let position = store.position();
    StorePoint {
        applied_index: position.applied_index,
        applied_term: position.applied_term,
        conf_state: position.conf_state,
        leases: position.leases,
        members: position.members,
    }
}

/// What a running member holds.
struct Running {
    backend: Backend,
    mailbox: Arc<Mailbox>,
    waiting: Arc<Waiting>,
    transport: Transport,
    apply: threads::queue::Sender<ApplyTask>,
    threads: Vec<JoinHandle<()>>,
}

fn start_threads(
    config: &Config,
    data: Data,
    dialer: Arc<TlsDialer>,
    metrics: &Arc<Metrics>,
    runtime: Handle,
) -> anyhow::Result<Running> {
    let Data { store, wal, recovered, identity, .. } = data;
    let clock = Clock::start();
    let reader = store.reader();
    tell_defragmentation(config.operability.bootstrap_defrag_megabytes, &reader.stats());
    let mailbox = Arc::new(Mailbox::default());
    let waiting = Arc::new(Waiting::new(rand::random()));
    let snapshots = Arc::new(SnapshotRoom::default());
    let status = StatusBoard::new(NodeStatus { id: identity.member_id, ..NodeStatus::default() });
    let (disk_tasks, disk_queue) = threads::queue::bounded::<DiskTask>(TASKS_MAX);
    let (apply_tasks, apply_queue) = threads::queue::bounded::<ApplyTask>(TASKS_MAX);
    let node_runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the node's runtime")?;
    let entry_bytes_max = ENTRY_BYTES.max(config.max_request_bytes + ENTRY_OVERHEAD_BYTES);
    let transport = Transport::new(PeerConfig {
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        // A message of raft holds entries of about one megabyte together, or one longer entry.
        frame_bytes_max: 4 * entry_bytes_max,
        mailbox: mailbox.clone(),
        apply: apply_tasks.clone(),
        snapshots: snapshots.clone(),
        metrics: metrics.clone(),
        dialer,
        runtime: node_runtime.handle().clone(),
        bulk_runtime: runtime,
        removal: Arc::default(),
    });
    transport.refresh(&reader.members(), |id| reader.is_removed(id));
    if config.integrity.initial_check && !integrity::check_at_start(&reader) {
        tracing::error!("found a broken record before anybody was served (--feature-gates=InitialCorruptCheck=true)");
    }
    let point = store_point(&store);
    let node_config = NodeConfig {
        id: identity.member_id,
        election_ticks: usize::try_from(config.election_timeout_ms / config.heartbeat_interval_ms)
            .expect("bounded by the longest election timeout"),
        tick_ms: config.heartbeat_interval_ms,
        entry_bytes_max,
        log_bytes_max: LOG_BYTES_MAX,
        waiting_max: COMMANDS_MAX,
        waiting_ms_max: LEADERLESS_MS_MAX,
        seed: rand::random(),
        digest_interval_ms: u64::try_from(config.integrity.digest_interval.as_millis()).unwrap_or(u64::MAX),
        incarnation: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
    };
    let node = Node::new(node_config, recovered, point, clock.now_ms());
    let backend = Backend::new(BackendParts {
        reader,
        identity: Identity {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            name: config.name.clone(),
        },
        limits: Limits {
            request_bytes_max: config.max_request_bytes,
            txn_operations_max: config.max_txn_ops,
            // One and a half election timeouts, rounded up to seconds, as in etcd.
            lease_ttl_s_min: i64::try_from((3 * config.election_timeout_ms).div_ceil(2).div_ceil(1_000))
                .expect("bounded by the longest election timeout"),
            quota: Quota { bytes: config.quota_bytes },
            sticky_nospace: config.integrity.sticky_nospace,
            progress_interval: config.progress_interval,
            slow_request: config.operability.warning_unary_request_duration,
            slow_apply: config.operability.warning_apply_duration,
        },
        mailbox: mailbox.clone(),
        apply: apply_tasks.clone(),
        waiting: waiting.clone(),
        status: status.clone(),
        clock,
        election_timeout_ms: config.election_timeout_ms,
        metrics: metrics.clone(),
    });
    let disk_thread = {
        let (mailbox, metrics) = (mailbox.clone(), metrics.clone());
        threads::spawn("disk", move || threads::disk::run(wal, &disk_queue, &mailbox, &metrics))
    };
    let apply_thread = ApplyThread {
        store,
        tasks: apply_queue,
        mailbox: mailbox.clone(),
        waiting: waiting.clone(),
        snapshots: snapshots.clone(),
        peers: transport.clone(),
        metrics: metrics.clone(),
        snapshot_count: config.snapshot_count,
        slow_apply: config.operability.warning_apply_duration,
        entries_since_checkpoint: 0,
        compaction: None,
        held: None,
    };
    let node_thread = NodeThread {
        node,
        mailbox: mailbox.clone(),
        waiting: waiting.clone(),
        clock,
        status,
        disk: disk_tasks,
        apply: apply_tasks.clone(),
        peers: transport.clone(),
        snapshots,
        metrics: metrics.clone(),
        tick: Duration::from_millis(config.heartbeat_interval_ms),
    };
    let threads = vec![
        disk_thread.context("cannot start the disk thread")?,
        threads::spawn("apply", move || apply_thread.run()).context("cannot start the apply thread")?,
        threads::spawn("node", move || node_runtime.block_on(node_thread.run()))
            .context("cannot start the node thread")?,
    ];
    Ok(Running { backend, mailbox, waiting, transport, apply: apply_tasks, threads })
}

async fn run_member(
    config: Config,
    data: Data,
    tls: Tls,
    metrics: Arc<Metrics>,
    runtime: Handle,
    greeting: Greeting,
) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen().context("cannot listen for signals")?;
    let reuse_port = if config.operability.socket_reuse_port { ReusePort::Yes } else { ReusePort::No };
    let client_listeners = bind_all(&config.listen_client_urls, tls.clients.as_ref(), reuse_port)?;
    let http_listeners = bind_all(&config.listen_client_http_urls, tls.clients.as_ref(), reuse_port)?;
    let peer_listeners = bind_all(&config.listen_peer_urls, tls.peers.as_ref(), reuse_port)?;
    let metrics_listeners = bind_all(&config.operability.listen_metrics_urls, tls.metrics.as_ref(), reuse_port)?;
    for member in &data.initial_members {
        tracing::info!(
            "cluster-id" = format!("{:x}", data.identity.cluster_id),
            "local-member-id" = format!("{:x}", data.identity.member_id),
            "added-peer-id" = format!("{:x}", member.id),
            "added-peer-peer-urls" = member.peer_ur_ls.join(","),
            "added member"
        );
    }
    let authenticator = Authenticator::start(&config.tokens, config.bcrypt_cost)?;
    let running = start_threads(&config, data, tls.dialer, &metrics, runtime)?;
    tokio::spawn(running.backend.clone().run_gathering());
    tokio::spawn(running.backend.clone().run_delivery());
    tokio::spawn(running.backend.clone().run_expiry());
    tokio::spawn(v2::run_expiry(running.backend.clone()));
    tokio::spawn(quota_watch::run(running.backend.clone(), running.transport.clone()));
    tokio::spawn(integrity::watch(running.backend.reader().clone(), running.apply.clone()));
    if config.integrity.scrub_bytes_per_second > 0 {
        let rate = config.integrity.scrub_bytes_per_second;
        tokio::spawn(integrity::scrub(running.backend.reader().clone(), metrics.clone(), rate));
    }
    if let Some(wanted) = config.operability.auto_compaction {
        tokio::spawn(compactor::run(running.backend.clone(), wanted));
    }
    for listener in peer_listeners {
        tracing::info!(address = listener.address.to_string(), "serving peer traffic");
        let serving = peer::serve(listener, running.transport.clone(), running.backend.reader().clone());
        running.transport.config().runtime.spawn(serving);
    }
    let (stop, stopped) = watch::channel(false);
    let tracer = config.operability.tracing.clone().map(|wanted| {
        let (tracer, spans) = Tracer::new(&wanted, metrics.clone());
        (Arc::new(tracer), tokio::spawn(spans::run(wanted, spans, metrics.clone(), stopped.clone())))
    });
    let surface = Arc::new(ClientSurface::new(
        running.backend.clone(),
        metrics,
        Duration::from_millis(config.election_timeout_ms),
        authenticator,
        PortSettings {
            debug_pages: DebugPages {
                profiling: config.operability.profiling_pages,
                requests: config.operability.request_pages,
            },
            http: config.http.clone(),
            connection: config.connection,
        },
        tracer.as_ref().map(|(tracer, _)| tracer.clone()),
        ClusterView {
            peers: running.transport.clone(),
            strict: config.strict_reconfig_check,
            learners_max: u32::try_from(config.max_learners).unwrap_or(u32::MAX),
        },
    ));
    for listener in metrics_listeners {
        tracing::info!(address = listener.url(), "serving metrics");
        tokio::spawn(watching::serve(listener, surface.clone(), stopped.clone()));
    }
    let room = Arc::new(Semaphore::new(CLIENT_CONNECTIONS_MAX));
    let split = if http_listeners.is_empty() { Traffic::All } else { Traffic::Grpc };
    let of_grpc = client_listeners.into_iter().map(|listener| (listener, split));
    let of_http = http_listeners.into_iter().map(|listener| (listener, Traffic::Http));
    let mut served = Vec::new();
    for (listener, traffic) in of_grpc.chain(of_http) {
        served.push(Served::new(&listener, traffic));
        tokio::spawn(accept_clients(listener, traffic, surface.clone(), room.clone(), stopped.clone()));
    }
    let downgrade_check = config.operability.downgrade_check;
    let publishing = tokio::spawn(become_ready(running.backend.clone(), config, served, greeting));
    let cluster_version = tokio::spawn(cluster_version::run(running.backend.clone(), running.transport.clone()));
    if !downgrade_check.is_zero() {
        let checking =
            cluster_version::run_downgrade_check(running.backend.clone(), running.transport.clone(), downgrade_check);
        tokio::spawn(checking);
    }

    let removal = running.transport.config().removal.clone();
    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "received signal; shutting down"),
        () = removal.posted() => {
            log_own_removal();
            // Those that have not applied its removal may still need this member's vote.
            tokio::time::sleep(REMOVED_WAIT).await;
        }
    }
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::warn!(signal, "received another signal; leaving at once");
        std::process::exit(1);
    });
    let deadline = Instant::now() + STOP_TIMEOUT;
    publishing.abort();
    cluster_version.abort();
    stop_member(running, &stop, &room, deadline).await;
    if let Some((_, exporting)) = tracer {
        // What the collector does not take by then is lost.
        let _ = tokio::time::timeout_at(deadline.into(), exporting).await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// The graceful end: leadership, connections, threads, in this order.
async fn stop_member(running: Running, stop: &watch::Sender<bool>, room: &Semaphore, deadline: Instant) {
    let Running { backend, mailbox, waiting, transport, apply, threads } = running;
    drop(apply);
    let status = backend.status();
    if status.leader == status.id && !status.sole_voter {
        mailbox.post(Input::TransferLeader { to: 0 });
        let mut newest = backend.subscribe_status();
        let handed_over = newest.wait_for(|status| status.leader != status.id && status.leader != 0);
        tokio::select! {
            _ = handed_over => tracing::info!("handed leadership over"),
            () = nobody_left(&backend, &transport) => tracing::info!("no other voter is there to take the lead over"),
            () = tokio::time::sleep(HAND_OVER_WAIT) => tracing::warn!("nobody took over the leadership in time"),
        }
    }
    let _ = stop.send(true);
    let all_room = u32::try_from(CLIENT_CONNECTIONS_MAX).expect("fits");
    // Connections that do not end by themselves end with the process.
    let _ = tokio::time::timeout(CONNECTIONS_WAIT, room.acquire_many(all_room)).await;
    waiting.stop();
    mailbox.stop();
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()));
    match tokio::time::timeout(deadline.saturating_duration_since(Instant::now()), joined).await {
        Ok(Ok(true)) => {}
        Ok(_) => die("a thread ended in disorder", &"see above"),
        Err(_) => {
            tracing::warn!("the last checkpoint takes too long: the next start replays the log instead");
            std::process::exit(0);
        }
    }
    transport.stop();
}

/// Returns when this member is connected to no other voter: all may be stopping together.
async fn nobody_left(backend: &Backend, transport: &Transport) {
    let own_id = backend.identity().member_id;
    let is_other_voter = |member: &Member| member.id != own_id && !member.is_learner;
    let others: Vec<u64> =
        backend.reader().members().iter().filter(|member| is_other_voter(member)).map(|member| member.id).collect();
    while others.iter().any(|&id| transport.active_since(id).is_some()) {
        tokio::time::sleep(CONNECTED_LOOK).await;
    }
}

/// An address of clients, as the log and the greeting name it.
struct Served {
    address: String,
    /// What a client is to be given as endpoint.
    endpoint: String,
    traffic: Traffic,
    insecurely: bool,
    securely: bool,
}

impl Served {
    fn new(listener: &Listener, traffic: Traffic) -> Self {
        Self {
            address: listener.address.to_string(),
            endpoint: listener.url(),
            traffic,
            insecurely: !matches!(listener.security, Security::Tls(_)),
            securely: !matches!(listener.security, Security::Plain),
        }
    }
}

/// Tells the cluster this member's name and addresses, then everybody that it serves.
async fn become_ready(backend: Backend, config: Config, served: Vec<Served>, greeting: Greeting) {
    let publish = MemberPublish {
        member_id: backend.identity().member_id,
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.clone(),
    };
    while let Err(error) = backend.propose(None, Operation::MemberPublish(publish.clone())).await {
        tracing::debug!(error = error.to_string(), "cannot publish this member yet");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    let identity = backend.identity();
    tracing::info!(
        "local-member-id" = format!("{:x}", identity.member_id),
        "local-member-attributes" = format!("{{Name:{} ClientURLs:[{}]}}", config.name, publish.client_urls.join(" ")),
        "cluster-id" = format!("{:x}", identity.cluster_id),
        "published local member to cluster through raft"
    );
    tracing::info!("ready to serve client requests");
    for Served { address, traffic, insecurely, securely, .. } in &served {
        if *insecurely {
            tracing::info!(
                traffic = traffic.name(),
                address,
                "serving client traffic insecurely; this is strongly discouraged!"
            );
        }
        if *securely {
            tracing::info!(traffic = traffic.name(), address, "serving client traffic securely");
        }
    }
    if greeting == Greeting::OnTerminal && std::io::stdout().is_terminal() {
        let endpoint = served.first().map(|served| served.endpoint.trim_start_matches("http://")).unwrap_or_default();
        println!(
            "Quorate {} serves etcd's API on {endpoint}; its data is in {}.",
            crate::version::QUORATE,
            config.data_dir.display()
        );
        println!("Try:  quorate ctl --endpoints={endpoint} put greeting hello   then   quorate ctl get greeting");
    }
}
