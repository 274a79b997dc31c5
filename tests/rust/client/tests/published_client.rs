//! The published crate `etcd-client` against one server: keys, transactions, watches, leases, locks, elections, errors.
//!
//! The server is the program that QUORATE_BIN names, started for each test on ports and a folder of its own, and gone
//! at the test's end.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, EventType, GetOptions,
    LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, Permission, PermissionType, PutOptions, ResignOptions,
    RoleRevokePermissionOptions, SortOrder, SortTarget, Txn, TxnOp, WatchFilterType, WatchOptions, WatchStream,
};

const READY_LIMIT: Duration = Duration::from_secs(30);
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A running server; dropping it ends the process and removes its folder.
struct Server {
    process: Child,
    folder: PathBuf,
    endpoint: String,
}

static SERVERS: AtomicU32 = AtomicU32::new(0);

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port").to_string()
}

impl Server {
    async fn start() -> (Self, Client) {
        let binary = std::env::var("QUORATE_BIN").expect("QUORATE_BIN names the server: run `cargo xtask test`");
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("quorate-rust-client-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let log = std::fs::File::create(folder.join("log")).expect("a log file");
        let (endpoint, peer) = (free_address(), format!("http://{}", free_address()));
        let url = format!("http://{endpoint}");
        let process = Command::new(binary)
            .args(["--name", "m0", "--data-dir"])
            .arg(folder.join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("m0={peer}")])
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Self { process, folder, endpoint };
        let client = server.client(None).await;
        (server, client)
    }

    /// A client that has been answered once.
    async fn client(&self, options: Option<ConnectOptions>) -> Client {
        let started = Instant::now();
        loop {
            let error = match Client::connect([&self.endpoint], options.clone()).await {
                Ok(mut client) => match client.get("ready", None).await {
                    Ok(_) => return client,
                    // Only a serving member can refuse.
                    Err(Error::GRpcStatus(status)) if status.message().contains("permission denied") => return client,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            assert!(started.elapsed() < READY_LIMIT, "the server is not ready: {error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("log of the server:\n{}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The code and text of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (i32, String) {
    match result {
        Err(Error::GRpcStatus(status)) => (status.code() as i32, status.message().to_owned()),
        other => panic!("not refused by the server: {other:?}"),
    }
}

async fn next(stream: &mut WatchStream) -> etcd_client::WatchResponse {
    let message = tokio::time::timeout(CALL_LIMIT, stream.message()).await.expect("a watch response in time");
    message.expect("no error").expect("the stream goes on")
}

#[tokio::test]
async fn keys_and_ranges() {
    let (_server, mut client) = Server::start().await;
    let first = client.put("a", "1", None).await.unwrap().header().unwrap().revision();
    let put = client.put("a", "2", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(put.prev_key().unwrap().value(), b"1");
    for (key, value) in [("b", "3"), ("c", "1"), ("d", "2")] {
        client.put(key, value, None).await.unwrap();
    }
    let got = client.get("a", None).await.unwrap();
    let kv = &got.kvs()[0];
    assert_eq!((kv.value(), kv.version(), kv.create_revision(), kv.mod_revision()), (&b"2"[..], 2, first, first + 1));
    let old = client.get("a", Some(GetOptions::new().with_revision(first))).await.unwrap();
    assert_eq!(old.kvs()[0].value(), b"1");
    let options = GetOptions::new().with_all_keys().with_sort(SortTarget::Key, SortOrder::Descend).with_limit(2);
    let all = client.get("", Some(options)).await.unwrap();
    assert_eq!(all.kvs().iter().map(|kv| kv.key()).collect::<Vec<_>>(), [b"d", b"c"]);
    assert!(all.more());
    assert_eq!(all.count(), 4);
    let counted = client.get("b", Some(GetOptions::new().with_from_key().with_count_only())).await.unwrap();
    assert_eq!((counted.count(), counted.kvs().len()), (3, 0));
    let options = DeleteOptions::new().with_range("c").with_prev_key();
    let deleted = client.delete("a", Some(options)).await.unwrap();
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (2, 2));
    assert_eq!(client.delete("a", None).await.unwrap().deleted(), 0);
}

#[tokio::test]
async fn transactions() {
    let (_server, mut client) = Server::start().await;
    client.put("a", "1", None).await.unwrap();
    let inner = Txn::new()
        .when([Compare::version("a", CompareOp::Equal, 1)])
        .and_then([TxnOp::get("b", None)])
        .or_else([TxnOp::put("never", "", None)]);
    let txn = Txn::new()
        .when([Compare::value("a", CompareOp::Equal, "1"), Compare::version("b", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("b", "2", None), TxnOp::txn(inner), TxnOp::delete("a", None)])
        .or_else([TxnOp::get("a", None)]);
    let done = client.txn(txn.clone()).await.unwrap();
    assert!(done.succeeded());
    assert_eq!(done.op_responses().len(), 3);
    let again = client.txn(txn).await.unwrap();
    assert!(!again.succeeded());
    let keys = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    assert_eq!(keys.kvs().len(), 1);
    assert_eq!(keys.kvs()[0].key(), b"b");
}

#[tokio::test]
async fn watches() {
    let (_server, mut client) = Server::start().await;
    let mut live = client.watch("w/", Some(WatchOptions::new().with_prefix().with_prev_key())).await.unwrap();
    assert!(next(&mut live).await.created());
    let start = client.put("w/a", "1", None).await.unwrap().header().unwrap().revision();
    client.put("other", "x", None).await.unwrap();
    client.put("w/a", "2", None).await.unwrap();
    client.delete("w/a", None).await.unwrap();
    let mut events = Vec::new();
    while events.len() < 3 {
        events.extend(next(&mut live).await.events().to_vec());
    }
    assert_eq!(
        events.iter().map(|e| e.event_type()).collect::<Vec<_>>(),
        [EventType::Put, EventType::Put, EventType::Delete]
    );
    assert_eq!(events[1].prev_kv().unwrap().value(), b"1");

    let options = WatchOptions::new().with_start_revision(start).with_filters([WatchFilterType::NoPut]);
    let mut late = client.watch("w/a", Some(options)).await.unwrap();
    assert!(next(&mut late).await.created());
    let response = next(&mut late).await;
    assert_eq!(response.events().len(), 1);
    assert_eq!(response.events()[0].event_type(), EventType::Delete);
    late.request_progress().await.unwrap();
    let progress = next(&mut late).await;
    assert!(progress.events().is_empty());
    assert_eq!(progress.header().unwrap().revision(), start + 3);
    late.cancel(response.watch_id()).await.unwrap();
    assert!(next(&mut late).await.canceled());

    client.compact(start + 2, Some(CompactionOptions::new().with_physical())).await.unwrap();
    let mut lost = client.watch("w/a", Some(WatchOptions::new().with_start_revision(start))).await.unwrap();
    assert!(next(&mut lost).await.created());
    let refused = next(&mut lost).await;
    assert!(refused.canceled());
    assert_eq!(refused.compact_revision(), start + 2);
}

#[tokio::test]
async fn leases() {
    let (_server, mut client) = Server::start().await;
    let granted = client.lease_grant(100, Some(LeaseGrantOptions::new().with_id(77))).await.unwrap();
    assert_eq!((granted.id(), granted.ttl()), (77, 100));
    client.put("leased", "v", Some(PutOptions::new().with_lease(77))).await.unwrap();
    let (mut keeper, mut answers) = client.lease_keep_alive(77).await.unwrap();
    keeper.keep_alive().await.unwrap();
    let answer = tokio::time::timeout(CALL_LIMIT, answers.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((answer.id(), answer.ttl()), (77, 100));
    let rest = client.lease_time_to_live(77, Some(LeaseTimeToLiveOptions::new().with_keys())).await.unwrap();
    assert_eq!((rest.granted_ttl(), rest.keys()), (100, &[b"leased".to_vec()][..]));
    assert_eq!(client.leases().await.unwrap().leases().len(), 1);
    client.lease_revoke(77).await.unwrap();
    assert!(client.get("leased", None).await.unwrap().kvs().is_empty());

    client.lease_grant(2, Some(LeaseGrantOptions::new().with_id(78))).await.unwrap();
    let granted = Instant::now();
    client.put("short", "v", Some(PutOptions::new().with_lease(78))).await.unwrap();
    let mut watch = client.watch("short", None).await.unwrap();
    assert!(next(&mut watch).await.created());
    assert_eq!(next(&mut watch).await.events()[0].event_type(), EventType::Delete);
    let lived = granted.elapsed();
    assert!(lived > Duration::from_millis(1900) && lived < Duration::from_secs(6), "a lease of 2 s lived {lived:?}");
}

#[tokio::test]
async fn locks_and_elections() {
    let (_server, mut client) = Server::start().await;
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let held = client.lock("lock", Some(LockOptions::new().with_lease(lease))).await.unwrap();
    assert_eq!(held.key(), format!("lock/{lease:x}").as_bytes());
    client.unlock(held.key()).await.unwrap();
    client.lock("lock", None).await.unwrap();

    let elected = client.campaign("election", "me", lease).await.unwrap();
    let leader = client.leader("election").await.unwrap();
    assert_eq!(leader.kv().unwrap().value(), b"me");
    client.resign(Some(ResignOptions::new().with_leader(elected.leader().unwrap().clone()))).await.unwrap();
    assert_eq!(refusal(client.leader("election").await), (2, "election: no leader".to_owned()));
}

#[tokio::test]
async fn refusals() {
    let (server, mut client) = Server::start().await;
    let text = |code: i32, text: &str| (code, text.to_owned());
    assert_eq!(refusal(client.put("", "v", None).await), text(3, "etcdserver: key is not provided"));
    assert_eq!(
        refusal(client.put("k", "v", Some(PutOptions::new().with_lease(4711))).await),
        text(5, "etcdserver: requested lease not found")
    );
    assert_eq!(
        refusal(client.get("k", Some(GetOptions::new().with_revision(1000))).await),
        text(11, "etcdserver: mvcc: required revision is a future revision")
    );
    client.put("k", "v", None).await.unwrap();
    let head = client.put("k", "w", None).await.unwrap().header().unwrap().revision();
    client.compact(head, None).await.unwrap();
    let compacted = text(11, "etcdserver: mvcc: required revision has been compacted");
    assert_eq!(refusal(client.compact(head, None).await), compacted);
    assert_eq!(refusal(client.get("k", Some(GetOptions::new().with_revision(head - 1))).await), compacted);
    let twice = Txn::new().and_then([TxnOp::put("k", "1", None), TxnOp::put("k", "2", None)]);
    assert_eq!(refusal(client.txn(twice).await), text(3, "etcdserver: duplicate key given in txn request"));
    assert_eq!(refusal(client.lease_revoke(4711).await), text(5, "etcdserver: requested lease not found"));
    assert_eq!(refusal(client.lease_grant(10_000_000_000, None).await), text(11, "etcdserver: too large lease TTL"));
    let large = vec![0; 1_600_000];
    assert_eq!(refusal(client.put("k", large, None).await), text(3, "etcdserver: request is too large"));
    assert_eq!(refusal(client.member_remove(4711).await), text(5, "etcdserver: member not found"));
    assert_eq!(refusal(client.auth_enable().await), text(9, "etcdserver: root user does not exist"));
}

#[tokio::test]
async fn users_and_roles() {
    let (server, mut client) = Server::start().await;
    client.user_add("root", "rootpw", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("user", "pw", None).await.unwrap();
    client.role_add("role").await.unwrap();
    let permission = Permission::new(PermissionType::Readwrite, "mine/").with_prefix();
    client.role_grant_permission("role", permission).await.unwrap();
    client.user_grant_role("user", "role").await.unwrap();
    client.put("theirs", "v", None).await.unwrap();
    client.auth_enable().await.unwrap();

    let nobody = text_of(client.put("mine/a", "v", None).await);
    assert_eq!(nobody, "etcdserver: user name is empty");
    let mut user = server.client(Some(ConnectOptions::new().with_user("user", "pw"))).await;
    user.put("mine/a", "v", None).await.unwrap();
    assert_eq!(text_of(user.get("theirs", None).await), "etcdserver: permission denied");
    assert_eq!(text_of(user.role_list().await), "etcdserver: permission denied");
    let wrong = Client::connect([&server.endpoint], Some(ConnectOptions::new().with_user("user", "wrong"))).await;
    match wrong {
        Err(Error::GRpcStatus(status)) => {
            assert_eq!(status.message(), "etcdserver: authentication failed, invalid user ID or password");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a wrong password was taken"),
    }

    let mut root = server.client(Some(ConnectOptions::new().with_user("root", "rootpw"))).await;
    let revoke = RoleRevokePermissionOptions::new().with_prefix();
    root.role_revoke_permission("role", "mine/", Some(revoke)).await.unwrap();
    assert_eq!(text_of(user.put("mine/a", "v", None).await), "etcdserver: permission denied");
    root.auth_disable().await.unwrap();
    client.put("mine/a", "v", None).await.unwrap();
}

fn text_of<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    refusal(result).1
}

#[tokio::test]
async fn cluster_and_maintenance() {
    let (_server, mut client) = Server::start().await;
    client.put("k", "v", None).await.unwrap();
    let members = client.member_list().await.unwrap();
    assert_eq!(members.members().len(), 1);
    assert_eq!(members.members()[0].name(), "m0");
    let status = client.status().await.unwrap();
    assert_eq!(status.leader(), members.members()[0].id());
    assert!(status.version().starts_with("3."), "{}", status.version());
    let hash = client.hash_kv(0).await.unwrap().hash();
    assert_eq!(client.hash_kv(0).await.unwrap().hash(), hash);
    client.defragment().await.unwrap();
    let mut snapshot = client.snapshot().await.unwrap();
    let mut bytes = 0;
    while let Some(part) = snapshot.message().await.unwrap() {
        bytes += part.blob().len();
    }
    assert_eq!(bytes % 512, 32, "whole pages and a checksum, not {bytes} bytes");
}
