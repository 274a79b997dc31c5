//! The transport over real sockets: two members that talk, strangers that are refused, garbage that ends a connection.

use super::dial::{DialError, Route, dial};
use super::frame::frame;
use super::{PeerConfig, STREAM_PATH, Transport, serve};
use crate::config::parse_url;
use crate::listen::Listener;
use crate::mailbox::{Mailbox, Turn};
use crate::metrics::Metrics;
use crate::socket::{Bound, ListeningSocket};
use crate::threads::snapshots::SnapshotRoom;
use crate::tls::test_certificates::{Authority, Folder, Wanted};
use crate::tls::{Endpoint, Security, TlsAcceptor, TlsDialer, TlsSettings};
use quorate_node::api::Input;
use quorate_proto::etcdserverpb::Member;
use quorate_proto::quoratepb::{Command, ConfState, Forward, ForwardRejected, PeerMessage, RaftMessage, peer_message};
use quorate_store::memory_disk::MemoryDisk;
use quorate_store::revlog::RevLogConfig;
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(20);
const CLUSTER: u64 = 0xc;

struct Peer {
    id: u64,
    url: String,
    mailbox: Arc<Mailbox>,
    transport: Transport,
    serving: tokio::task::JoinHandle<()>,
}

impl Peer {
    fn say(&self, to: u64, message: &PeerMessage) {
        self.transport.send(to, message);
        self.transport.flush();
    }
}

fn member(id: u64, url: &str) -> Member {
    Member { id, name: format!("m{id}"), peer_ur_ls: vec![url.to_owned()], ..Member::default() }
}

/// A member that listens, knowing nobody.
async fn peer(id: u64) -> Peer {
    peer_with(id, &TlsSettings::default()).await
}

/// Listens on the address; with TLS if there is a certificate.
async fn listener(address: &str, tls: &TlsSettings) -> Listener {
    let socket = TcpListener::bind(address).await.expect("listen");
    let security = if tls.is_empty() {
        Security::Plain
    } else {
        Security::Tls(Arc::new(TlsAcceptor::new(Endpoint::Peer, tls).expect("TLS")))
    };
    Listener {
        address: Bound::Ip(socket.local_addr().expect("address")),
        socket: ListeningSocket::Tcp(socket),
        security,
    }
}

async fn peer_with(id: u64, tls: &TlsSettings) -> Peer {
    let listener = listener("127.0.0.1:0", tls).await;
    let scheme = if tls.is_empty() { "http" } else { "https" };
    let url = format!("{scheme}://{}", listener.address);
    let config = StoreConfig { revlog: RevLogConfig { segment_bytes: 1 << 20, buffer_bytes: 4096 } };
    let bootstrap = Bootstrap { members: vec![member(id, &url)], conf_state: ConfState::default() };
    let store = Store::open(Arc::new(MemoryDisk::default()), "store", config, bootstrap).expect("store");
    let mailbox = Arc::new(Mailbox::default());
    let transport = Transport::new(PeerConfig {
        cluster_id: CLUSTER,
        member_id: id,
        frame_bytes_max: 1 << 20,
        mailbox: mailbox.clone(),
        apply: crate::threads::queue::bounded(1).0,
        snapshots: Arc::new(SnapshotRoom::default()),
        metrics: Arc::new(Metrics::new()),
        dialer: Arc::new(TlsDialer::new(tls).expect("TLS")),
        runtime: tokio::runtime::Handle::current(),
        bulk_runtime: tokio::runtime::Handle::current(),
        removal: Arc::default(),
    });
    let serving = tokio::spawn(serve(listener, transport.clone(), store.reader()));
    Peer { id, url, mailbox, transport, serving }
}

fn plain() -> TlsDialer {
    TlsDialer::new(&TlsSettings::default()).expect("TLS")
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(test);
}

/// Collects what `wanted` makes of inputs until there are `count`.
async fn collect<T>(mailbox: &Mailbox, count: usize, wanted: impl Fn(Input) -> Option<T>) -> Vec<T> {
    let deadline = Instant::now() + DEADLINE;
    let mut turn = Turn::default();
    let mut found = Vec::new();
    while found.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} came in time", found.len());
        tokio::time::sleep(Duration::from_millis(1)).await;
        turn.clear();
        mailbox.take(Instant::now().into(), &mut turn).await;
        found.extend(turn.inputs.drain(..).filter_map(&wanted));
    }
    found
}

fn raft(term: u64) -> PeerMessage {
    PeerMessage { kind: Some(peer_message::Kind::Raft(RaftMessage { term, ..RaftMessage::default() })) }
}

fn term_from(input: Input, sender: u64) -> Option<u64> {
    match input {
        Input::Peer { from, message: PeerMessage { kind: Some(peer_message::Kind::Raft(raft)) } } if from == sender => {
            Some(raft.term)
        }
        _ => None,
    }
}

/// Repeats a message each way until one arrives, as raft does.
async fn wait_until_connected(one: &Peer, two: &Peer) {
    for (from, to) in [(one, two), (two, one)] {
        let deadline = Instant::now() + DEADLINE;
        loop {
            from.say(to.id, &raft(5));
            let mut turn = Turn::default();
            to.mailbox.take(Instant::now().into(), &mut turn).await;
            if turn.inputs.into_iter().any(|input| term_from(input, from.id).is_some()) {
                break;
            }
            assert!(Instant::now() < deadline, "{} does not reach {}", from.id, to.id);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn pair() -> (Peer, Peer) {
    let (one, two) = (peer(1).await, peer(2).await);
    let members = [member(1, &one.url), member(2, &two.url)];
    one.transport.refresh(&members, |_| false);
    two.transport.refresh(&members, |_| false);
    (one, two)
}

#[test]
fn messages_arrive_in_order_both_ways() {
    run(async {
        let (one, two) = pair().await;
        wait_until_connected(&one, &two).await;
        for term in 10..13 {
            one.say(2, &raft(term));
        }
        two.say(1, &raft(9));
        let from_one = |input| term_from(input, one.id).filter(|term| *term >= 10);
        assert_eq!(collect(&two.mailbox, 3, from_one).await, [10, 11, 12]);
        assert_eq!(collect(&one.mailbox, 1, |input| term_from(input, two.id).filter(|term| *term == 9)).await, [9]);
    });
}

#[test]
fn the_way_to_a_peer_and_back_is_measured() {
    run(async {
        let (one, two) = pair().await;
        for (from, to) in [(&one, two.id), (&two, one.id)] {
            let link = from.transport.link(to).expect("a member");
            let deadline = Instant::now() + DEADLINE;
            while link.counters().round_trip_seconds.count() == 0 {
                assert!(Instant::now() < deadline, "{} did not measure its way to {to}", from.id);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
}

#[test]
fn a_peer_that_is_gone_is_told_once_and_found_again() {
    run(async {
        let (one, two) = pair().await;
        wait_until_connected(&one, &two).await;
        let address = two.url.strip_prefix("http://").expect("a URL").to_owned();
        two.transport.stop();
        two.serving.abort();
        let _ = two.serving.await;
        let gone = |input| matches!(input, Input::PeerLost { peer: 2, refused: true }).then_some(());
        assert_eq!(collect(&one.mailbox, 1, gone).await.len(), 1);
        let listener = TcpListener::bind(&address).await.expect("listen again");
        let deadline = Instant::now() + DEADLINE;
        let found = tokio::time::timeout_at(deadline.into(), listener.accept()).await;
        assert!(found.is_ok_and(|accepted| accepted.is_ok()), "no new attempt came");
    });
}

#[test]
fn commands_that_never_left_come_back() {
    run(async {
        let (one, two) = pair().await;
        wait_until_connected(&one, &two).await;
        two.transport.stop();
        two.serving.abort();
        let _ = two.serving.await;
        let gone = |input| matches!(input, Input::PeerLost { peer: 2, refused: true }).then_some(());
        assert_eq!(collect(&one.mailbox, 1, gone).await.len(), 1);
        let commands = [7, 8].map(|id| Command { id, operation: None, caller: None }).to_vec();
        let forward = Forward { incarnation: 3, sequence: 4, commands, term: 5 };
        one.say(2, &PeerMessage { kind: Some(peer_message::Kind::Forward(forward)) });
        let rejected = |input| match input {
            Input::Peer { from: 2, message: PeerMessage { kind: Some(peer_message::Kind::ForwardRejected(back)) } } => {
                Some(back)
            }
            _ => None,
        };
        let expected = ForwardRejected { sequence: 4, leader: 0, ids: vec![7, 8], incarnation: 3 };
        assert_eq!(collect(&one.mailbox, 1, rejected).await, [expected]);
    });
}

#[test]
fn strangers_are_refused_with_the_reason() {
    run(async {
        let (_one, two) = pair().await;
        let addresses = [parse_url(&two.url).expect("URL")];
        for (route, reason) in [
            (Route { cluster_id: CLUSTER + 1, from: 1, to: 2, ..Route::default() }, "cluster ID mismatch"),
            (Route { cluster_id: CLUSTER, from: 1, to: 3, ..Route::default() }, "member ID mismatch"),
            (
                Route { cluster_id: CLUSTER, from: 7, to: 2, ..Route::default() },
                "the sender is not a member of the cluster",
            ),
        ] {
            match dial(&addresses, STREAM_PATH, &route, &plain()).await {
                Err(DialError::Rejected { status, .. }) => assert!(status.contains("412"), "{reason}: {status}"),
                other => panic!("{reason}: {other:?}"),
            }
        }
        let route = Route { cluster_id: CLUSTER, from: 1, to: 2, ..Route::default() };
        assert!(dial(&addresses, STREAM_PATH, &route, &plain()).await.is_ok());
    });
}

#[test]
fn garbage_ends_the_connection_and_nothing_else() {
    run(async {
        let (one, two) = pair().await;
        let addresses = [parse_url(&two.url).expect("URL")];
        let route = Route { cluster_id: CLUSTER, from: 1, to: 2, ..Route::default() };
        let mut wrong_sum = frame(b"x").to_vec();
        wrong_sum[4] ^= 1;
        for garbage in [vec![0xff; 64], wrong_sum, frame(&[0xff; 9]).to_vec()] {
            let mut stream = dial(&addresses, STREAM_PATH, &route, &plain()).await.expect("dial");
            stream.write_all(&garbage).await.expect("write");
            let end = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 1])).await.expect("closed in time");
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        }
        wait_until_connected(&one, &two).await;
    });
}

async fn request(url: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").expect("URL")).await.expect("connect");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("in time").expect("read");
    String::from_utf8(answer).expect("text")
}

#[test]
fn tools_read_members_and_version() {
    run(async {
        let one = peer(1).await;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let members = request(&one.url, &get("/members")).await;
        let expected = format!("[{{\"id\":1,\"peerURLs\":[\"{}\"],\"name\":\"m1\"}}]\n", one.url);
        assert!(members.starts_with("HTTP/1.1 200") && members.ends_with(&expected), "{members}");
        let version = request(&one.url, &get("/version")).await;
        assert!(version.contains("{\"etcdserver\":\"3.7.3\",\"etcdcluster\":\"not_decided\""), "{version}");
        assert!(request(&one.url, &get("/raft")).await.starts_with("HTTP/1.1 404"));
        let bare = format!("POST {STREAM_PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let refused = request(&one.url, &bare).await;
        assert!(refused.starts_with("HTTP/1.1 412") && refused.ends_with("incompatible version\n"), "{refused}");
    });
}

struct Certificates {
    folder: Folder,
    authority: Authority,
}

impl Certificates {
    fn new(name: &str) -> Self {
        let (folder, authority) = (Folder::new(name), Authority::new("members"));
        folder.write("ca.pem", authority.pem());
        Self { folder, authority }
    }

    /// Settings of a member whose certificate has this common name and these hosts.
    fn settings(&self, common_name: &str, hosts: &[&str]) -> TlsSettings {
        let leaf = self.authority.sign(&Wanted::new(common_name, hosts));
        TlsSettings {
            cert_file: Some(self.folder.write(&format!("{common_name}.pem"), leaf.certificate)),
            key_file: Some(self.folder.write(&format!("{common_name}.key"), leaf.key)),
            trusted_ca_file: Some(self.folder.path().join("ca.pem")),
            client_cert_auth: true,
            version_max: crate::tls::TlsVersion::Tls13,
            ..TlsSettings::default()
        }
    }
}

#[test]
fn members_talk_over_tls_both_ways() {
    run(async {
        let certificates = Certificates::new("peers");
        let one = peer_with(1, &certificates.settings("one", &["127.0.0.1"])).await;
        let two = peer_with(2, &certificates.settings("two", &["127.0.0.1"])).await;
        let members = [member(1, &one.url), member(2, &two.url)];
        one.transport.refresh(&members, |_| false);
        two.transport.refresh(&members, |_| false);
        wait_until_connected(&one, &two).await;
        // Larger than any buffer on the way: what is held back must be flushed.
        let terms: Vec<u64> = (10..2_010).collect();
        for &term in &terms {
            one.say(2, &raft(term));
        }
        let from_one = |input| term_from(input, one.id).filter(|term| *term >= 10);
        assert_eq!(collect(&two.mailbox, terms.len(), from_one).await, terms);
    });
}

/// What becomes of a connection from a member with `from` to one with `to`.
async fn attempt(from: &TlsSettings, to: &TlsSettings) -> Result<(), String> {
    let two = peer_with(2, to).await;
    two.transport.refresh(&[member(1, "https://127.0.0.1:1"), member(2, &two.url)], |_| false);
    let addresses = [parse_url(&two.url).expect("URL")];
    let route = Route { cluster_id: CLUSTER, from: 1, to: 2, ..Route::default() };
    let dialer = TlsDialer::new(from).expect("TLS");
    let dialed = tokio::time::timeout(DEADLINE, dial(&addresses, STREAM_PATH, &route, &dialer)).await.expect("in time");
    two.serving.abort();
    two.transport.stop();
    dialed.map(drop).map_err(|error| error.to_string())
}

#[test]
fn members_are_judged_by_their_certificates() {
    run(async {
        let certificates = Certificates::new("judged");
        let one = certificates.settings("one", &["127.0.0.1"]);
        let two = certificates.settings("two", &["127.0.0.1"]);
        assert_eq!(attempt(&one, &two).await, Ok(()));

        let named = |names: &[&str], settings: &TlsSettings| TlsSettings {
            allowed_common_names: names.iter().map(|&name| name.to_owned()).collect(),
            ..settings.clone()
        };
        assert_eq!(attempt(&one, &named(&["one", "other"], &two)).await, Ok(()));
        let refused = "remote error: tls: bad certificate";
        assert_eq!(attempt(&one, &named(&["two"], &two)).await, Err(refused.to_owned()), "judged by the listener");
        let refused = "client certificate authentication failed";
        assert_eq!(attempt(&named(&["one"], &one), &two).await, Err(refused.to_owned()), "judged by the dialer");

        let elsewhere = certificates.settings("elsewhere", &["10.9.8.7"]);
        let closed = "the peer ended the connection as soon as hands were shaken; its log says why";
        assert_eq!(attempt(&elsewhere, &two).await, Err(closed.to_owned()), "comes from another address");
        let unchecked = TlsSettings { skip_client_san_verification: true, ..two.clone() };
        assert_eq!(attempt(&elsewhere, &unchecked).await, Ok(()));
        assert_eq!(
            attempt(&one, &elsewhere).await,
            Err("tls: failed to verify certificate: x509: certificate is valid for 10.9.8.7, not 127.0.0.1".to_owned())
        );

        let strangers = Certificates::new("strangers");
        let stranger = strangers.settings("one", &["127.0.0.1"]);
        assert_eq!(
            attempt(&stranger, &two).await,
            Err("tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned())
        );
        let trusting = TlsSettings { trusted_ca_file: two.trusted_ca_file.clone(), ..stranger };
        assert_eq!(attempt(&trusting, &two).await, Err("remote error: tls: unknown certificate authority".to_owned()));
    });
}
