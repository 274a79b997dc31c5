//! The parts of a cluster that need no server program, and the ways a program can fail.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn recipe<'a>(binary: &'a Path, folder: &'a Path, server_arguments: &'a [String]) -> Recipe<'a> {
    Recipe { binary, members: 3, server_arguments, folder, keep: false }
}

/// A folder of this test, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("quorate-bench-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn program(&self, text: &str) -> PathBuf {
        let program = self.0.join("program");
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    fn clusters_left(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn members_get_etcds_flags() {
    let ports: Vec<Ports> = (0..3).map(|place| Ports { client: 10 + place, peer: 20 + place }).collect();
    let extra = ["--log-level=warn".to_owned()];
    let (binary, folder) = (Path::new("/bin/etcd"), Path::new("/f"));
    let arguments = member_arguments(&recipe(binary, folder, &extra), &ports, 1, Path::new("/f/m1"));
    let want = "--name m1 --data-dir /f/m1 --listen-client-urls http://127.0.0.1:11 \
        --advertise-client-urls http://127.0.0.1:11 --listen-peer-urls http://127.0.0.1:21 \
        --initial-advertise-peer-urls http://127.0.0.1:21 \
        --initial-cluster m0=http://127.0.0.1:20,m1=http://127.0.0.1:21,m2=http://127.0.0.1:22 --log-level=warn";
    assert_eq!(arguments.join(" "), want);
    let arguments = member_arguments(&recipe(Path::new("./quorate"), folder, &[]), &ports, 0, Path::new("/f/m0"));
    assert_eq!(arguments[..2], ["server", "--name"]);
}

#[test]
fn ports_are_different() {
    let mut ports: Vec<u16> = free_ports(3).unwrap().iter().flat_map(|ports| [ports.client, ports.peer]).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 6);
}

#[test]
fn health_is_what_the_answer_says() {
    let answer = |status: &str, body: &str| format!("HTTP/1.1 {status}\r\nA: b\r\n\r\n{body}").into_bytes();
    assert!(says_healthy(&answer("200 OK", r#"{"health":"true","reason":""}"#)));
    assert!(says_healthy(&answer("200 OK", r#"{"health": "true"}"#)));
    assert!(!says_healthy(&answer("503 Service Unavailable", r#"{"health":"true"}"#)));
    assert!(!says_healthy(&answer("200 OK", r#"{"health":"false","reason":"RAFT NO LEADER"}"#)));
    assert!(!says_healthy(b"HTTP/1.1 200 OK\r\n"));
    assert!(!says_healthy(b""));
}

#[tokio::test]
async fn a_program_that_ends_is_reported_with_its_log() {
    let folder = Folder::new("ends");
    let program = folder.program("#!/bin/sh\necho no such flag >&2\nexit 3\n");
    let error = Cluster::start(&recipe(&program, &folder.0, &[])).await.unwrap_err().to_string();
    assert!(error.contains("exit status: 3") && error.contains("no such flag"), "{error}");
    assert_eq!(folder.clusters_left(), 0);
}

#[tokio::test]
async fn a_program_that_is_none_is_reported() {
    let folder = Folder::new("none");
    let program = folder.0.join("missing");
    let error = format!("{:#}", Cluster::start(&recipe(&program, &folder.0, &[])).await.unwrap_err());
    assert!(error.contains("missing"), "{error}");
    assert_eq!(folder.clusters_left(), 0);
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process() {
    let folder = Folder::new("given-up");
    let pids = folder.0.join("pids");
    let program = folder.program(&format!("#!/bin/sh\necho $$ >> {}\nexec sleep 1000\n", pids.display()));
    let read_pids = || std::fs::read_to_string(&pids).unwrap_or_default();
    {
        let recipe = recipe(&program, &folder.0, &[]);
        let mut start = std::pin::pin!(Cluster::start(&recipe));
        let deadline = Instant::now() + Duration::from_secs(20);
        while read_pids().lines().count() < 3 {
            assert!(Instant::now() < deadline, "three members start");
            assert!(timeout(Duration::from_millis(10), &mut start).await.is_err(), "these members are never healthy");
        }
    }
    assert_eq!(folder.clusters_left(), 0);
    for pid in read_pids().lines() {
        let stat = format!("/proc/{pid}/stat");
        let deadline = Instant::now() + Duration::from_secs(20);
        // A killed process is gone, or a zombie until the runtime has waited for it.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "process {pid} still runs");
            tokio::task::yield_now().await;
        }
    }
}
