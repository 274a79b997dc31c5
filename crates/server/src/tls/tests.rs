//! Handshakes over real sockets: who is let in, who is not and why, files that change, silence that starves nobody.

use super::failure::handshake_text;
use super::test_certificates::{Authority, Folder, Leaf, Wanted};
use super::*;
use crate::socket::{Remote, Socket};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const DEADLINE: Duration = Duration::from_secs(20);

/// An authority, a folder that holds it and a server's certificate, and settings that name them.
struct Room {
    folder: Folder,
    authority: Authority,
    settings: TlsSettings,
}

impl Room {
    fn new(name: &str) -> Self {
        let (folder, authority) = (Folder::new(name), Authority::new("authority"));
        folder.write("ca.pem", authority.pem());
        let room = Self { folder, authority, settings: TlsSettings::default() };
        let (cert_file, key_file) = room.put(&room.authority.sign(&Wanted::new("server", &["localhost", "127.0.0.1"])));
        let settings = TlsSettings {
            cert_file: Some(cert_file),
            key_file: Some(key_file),
            version_max: TlsVersion::Tls13,
            ..TlsSettings::default()
        };
        Self { settings, ..room }
    }

    /// As a server's certificate.
    fn put(&self, leaf: &Leaf) -> (std::path::PathBuf, std::path::PathBuf) {
        (self.folder.write("server.pem", &leaf.certificate), self.folder.write("server.key", &leaf.key))
    }

    /// Settings that demand a certificate.
    fn demanding(&self) -> TlsSettings {
        TlsSettings {
            client_cert_auth: true,
            trusted_ca_file: Some(self.folder.path().join("ca.pem")),
            ..self.settings.clone()
        }
    }

    fn client(&self, name: &str) -> Leaf {
        self.authority.sign(&Wanted::new(name, &[]))
    }
}

/// Echoes one line of each connection that it lets in, led by the common name.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(endpoint: Endpoint, settings: &TlsSettings) -> Self {
        let acceptor = Arc::new(TlsAcceptor::new(endpoint, settings).expect("settings"));
        Self::serve(Security::Tls(acceptor)).await
    }

    async fn serve(security: Security) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = socket.local_addr().expect("address");
        let task = tokio::spawn(async move {
            loop {
                let (tcp, remote) = socket.accept().await.expect("accept");
                let security = security.clone();
                tokio::spawn(async move {
                    let Some(Accepted { mut stream, common_name, .. }) =
                        security.accept(Socket::Tcp(tcp), Remote::Ip(remote)).await
                    else {
                        return;
                    };
                    let mut byte = [0; 1];
                    if stream.read_exact(&mut byte).await.is_ok() {
                        let name = common_name.as_deref().unwrap_or("nobody");
                        let _ = stream.write_all(format!("{name} {}\n", char::from(byte[0])).as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client that trusts one authority.
struct Client<'a> {
    trusts: &'a str,
    shows: Option<&'a Leaf>,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
    protocols: Vec<Vec<u8>>,
}

impl<'a> Client<'a> {
    fn new(trusts: &'a str, shows: Option<&'a Leaf>) -> Self {
        Self { trusts, shows, versions: vec![&TLS13, &TLS12], protocols: Vec::new() }
    }

    fn config(&self) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.trusts.as_bytes()).expect("PEM")).expect("authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let chain: Vec<_> =
                    CertificateDer::pem_slice_iter(leaf.certificate.as_bytes()).collect::<Result<_, _>>().expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("certificate")
            }
        };
        config.alpn_protocols.clone_from(&self.protocols);
        config
    }

    /// Asks a server; its line, or why there is none.
    async fn ask(&self, server: &Server) -> Result<String, String> {
        let exchange = async {
            let tcp = TcpStream::connect(server.address).await?;
            let name = ServerName::try_from("localhost").expect("a name");
            let mut stream = TlsConnector::from(Arc::new(self.config())).connect(name, tcp).await?;
            stream.write_all(b"x").await?;
            stream.flush().await?;
            let mut line = String::new();
            stream.read_to_string(&mut line).await?;
            let protocol = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
            Ok::<_, std::io::Error>(line.trim_end().to_owned() + &protocol.map(|p| format!(" {p}")).unwrap_or_default())
        };
        timeout(DEADLINE, exchange).await.expect("in time").map_err(|error| handshake_text(&error))
    }
}

fn unwanted(text: &str) -> Result<String, String> {
    Err(text.to_owned())
}

#[tokio::test]
async fn anybody_is_let_in_where_no_certificate_is_asked_for() {
    let room = Room::new("anybody");
    let server = Server::start(Endpoint::Client, &room.settings).await;
    let trusts = room.authority.pem();
    assert_eq!(Client::new(&trusts, None).ask(&server).await, Ok("nobody x".to_owned()));
    for (offered, chosen) in [
        (vec![b"h2".to_vec()], "nobody x h2"),
        (vec![b"http/1.1".to_vec(), b"h2".to_vec()], "nobody x h2"),
        (vec![b"http/1.1".to_vec()], "nobody x http/1.1"),
    ] {
        let client = Client { protocols: offered, ..Client::new(&trusts, None) };
        assert_eq!(client.ask(&server).await, Ok(chosen.to_owned()));
    }
}

#[tokio::test]
async fn only_good_certificates_are_let_in() {
    let room = Room::new("good");
    let server = Server::start(Endpoint::Client, &room.demanding()).await;
    let trusts = room.authority.pem();
    for version in [&TLS12, &TLS13] {
        let ask = async |leaf: Option<&Leaf>| {
            let client = Client { versions: vec![version], ..Client::new(&trusts, leaf) };
            client.ask(&server).await
        };
        assert_eq!(ask(Some(&room.client("alice"))).await, Ok("alice x".to_owned()));
        let between = room.authority.intermediate("between");
        let mut leaf = between.sign(&Wanted::new("bob", &[]));
        assert_eq!(ask(Some(&leaf)).await, unwanted("remote error: tls: unknown certificate authority"));
        leaf.certificate += &between.pem();
        assert_eq!(ask(Some(&leaf)).await, Ok("bob x".to_owned()));

        assert_eq!(ask(None).await, unwanted("remote error: tls: certificate required"));
        let stranger = Authority::new("authority").sign(&Wanted::new("alice", &[]));
        assert!(ask(Some(&stranger)).await.is_err(), "the same name does not make the same authority");
        let day = Duration::from_secs(24 * 3600);
        let late = Wanted { not_after: SystemTime::now() - day, ..Wanted::new("alice", &[]) };
        assert_eq!(ask(Some(&room.authority.sign(&late))).await, unwanted("remote error: tls: expired certificate"));
        let servers_own = Wanted { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..Wanted::new("alice", &[]) };
        assert_eq!(
            ask(Some(&room.authority.sign(&servers_own))).await,
            unwanted("remote error: tls: unsupported certificate")
        );
    }
}

#[tokio::test]
async fn a_trusted_authority_alone_demands_a_certificate_but_gives_no_name() {
    let room = Room::new("trusted");
    let settings = TlsSettings { client_cert_auth: false, ..room.demanding() };
    let server = Server::start(Endpoint::Client, &settings).await;
    let trusts = room.authority.pem();
    assert!(Client::new(&trusts, None).ask(&server).await.is_err());
    assert_eq!(Client::new(&trusts, Some(&room.client("alice"))).ask(&server).await, Ok("nobody x".to_owned()));
}

#[tokio::test]
async fn a_self_signed_certificate_among_the_authorities_is_trusted_as_it_is() {
    let room = Room::new("self");
    let own = Wanted::new("self", &["localhost"]).self_signed();
    room.folder.write("ca.pem", &own.certificate);
    let server = Server::start(Endpoint::Client, &room.demanding()).await;
    let trusts = room.authority.pem();
    assert_eq!(Client::new(&trusts, Some(&own)).ask(&server).await, Ok("self x".to_owned()));
    let another = Wanted::new("self", &["localhost"]).self_signed();
    assert!(Client::new(&trusts, Some(&another)).ask(&server).await.is_err());
}

#[tokio::test]
async fn allowed_hostnames_are_demanded() {
    let room = Room::new("hostnames");
    let settings =
        TlsSettings { allowed_hostnames: vec!["a.test".to_owned(), "b.test".to_owned()], ..room.demanding() };
    let server = Server::start(Endpoint::Client, &settings).await;
    let trusts = room.authority.pem();
    let ask = async |hosts: &[&str]| {
        let leaf = room.authority.sign(&Wanted::new("alice", hosts));
        Client::new(&trusts, Some(&leaf)).ask(&server).await
    };
    assert_eq!(ask(&["b.test"]).await, Ok("alice x".to_owned()));
    assert_eq!(ask(&["c.test"]).await, unwanted("remote error: tls: bad certificate"));
    let both = TlsSettings { allowed_common_names: vec!["x".to_owned()], ..settings };
    let error = TlsAcceptor::new(Endpoint::Client, &both).err().expect("exclusive");
    assert_eq!(
        error.to_string(),
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[\"x\"], hostnames=[\"a.test\" \"b.test\"])"
    );
}

#[tokio::test]
async fn revocations_count_as_soon_as_they_are_written() {
    let room = Room::new("revoked");
    let (good, bad) = (room.client("good"), room.client("bad"));
    let crl_file = Some(room.folder.write("list.crl", room.authority.revoke(&[])));
    let server = Server::start(Endpoint::Client, &TlsSettings { crl_file, ..room.demanding() }).await;
    let trusts = room.authority.pem();
    assert_eq!(Client::new(&trusts, Some(&bad)).ask(&server).await, Ok("bad x".to_owned()));
    room.folder.write("list.crl", room.authority.revoke(&[&bad.serial]));
    // Files are looked at every few milliseconds.
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while Client::new(&trusts, Some(&bad)).ask(&server).await.is_ok_and(|line| !line.is_empty()) {
        assert!(tokio::time::Instant::now() < deadline, "still let in");
    }
    assert_eq!(Client::new(&trusts, Some(&good)).ask(&server).await, Ok("good x".to_owned()));
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_a_broken_one_is_not() {
    let room = Room::new("renewed");
    let server = Server::start(Endpoint::Client, &room.settings).await;
    let old = room.authority.pem();
    let new_authority = Authority::new("next");
    let new = new_authority.pem();
    assert!(Client::new(&old, None).ask(&server).await.is_ok());
    assert!(Client::new(&new, None).ask(&server).await.is_err());

    room.folder.write("server.pem", "garbage");
    assert!(Client::new(&old, None).ask(&server).await.is_ok(), "the old one stays in use");
    room.put(&new_authority.sign(&Wanted::new("server", &["localhost"])));
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while Client::new(&new, None).ask(&server).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "still the old one");
    }
    assert!(Client::new(&old, None).ask(&server).await.is_err());
}

#[tokio::test]
async fn versions_and_suites_are_bounded() {
    let room = Room::new("versions");
    let trusts = room.authority.pem();
    let ask = async |settings: &TlsSettings, version| {
        let server = Server::start(Endpoint::Client, settings).await;
        Client { versions: vec![version], ..Client::new(&trusts, None) }.ask(&server).await
    };
    let new_only = TlsSettings { version_min: TlsVersion::Tls13, ..room.settings.clone() };
    assert!(ask(&new_only, &TLS13).await.is_ok());
    assert_eq!(ask(&new_only, &TLS12).await, unwanted("remote error: tls: protocol version not supported"));
    let old_only = TlsSettings { version_max: TlsVersion::Tls12, ..room.settings.clone() };
    assert!(ask(&old_only, &TLS12).await.is_ok());
    assert!(ask(&old_only, &TLS13).await.is_err());
    let suite = |name: &str| TlsSettings { cipher_suites: vec![name.to_owned()], ..room.settings.clone() };
    assert!(ask(&suite("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"), &TLS12).await.is_ok());
    let for_rsa_keys = suite("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
    assert_eq!(ask(&for_rsa_keys, &TLS12).await, unwanted("remote error: tls: handshake failure"));
    assert!(ask(&for_rsa_keys, &TLS13).await.is_ok(), "names say nothing about TLS 1.3");
}

#[tokio::test]
async fn what_is_wrong_with_files_is_told_with_their_names() {
    let room = Room::new("wrong");
    let folder = room.folder.path().display().to_string();
    let told =
        |settings: &TlsSettings| TlsAcceptor::new(Endpoint::Client, settings).err().map(|error| error.to_string());
    let settings = room.demanding();
    assert_eq!(told(&settings), None);
    let missing = Some(room.folder.path().join("missing"));
    let no_file = Some(format!("open {folder}/missing: no such file or directory"));
    assert_eq!(told(&TlsSettings { cert_file: missing.clone(), ..settings.clone() }), no_file);
    assert_eq!(told(&TlsSettings { key_file: missing.clone(), ..settings.clone() }), no_file);
    assert_eq!(told(&TlsSettings { trusted_ca_file: missing.clone(), ..settings.clone() }), no_file);
    assert_eq!(told(&TlsSettings { crl_file: missing.clone(), ..settings.clone() }), no_file);
    assert_eq!(
        told(&TlsSettings { key_file: None, ..settings.clone() }),
        Some(format!("KeyFile and CertFile must both be present[key: , cert: {folder}/server.pem]"))
    );
    assert_eq!(
        told(&TlsSettings { client_cert_file: missing, ..settings.clone() }),
        Some(format!(
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: {folder}/missing]"
        ))
    );
    let another = room.folder.write("another.key", room.client("x").key);
    assert_eq!(
        told(&TlsSettings { key_file: Some(another), ..settings.clone() }),
        Some(format!("{folder}/server.pem and {folder}/another.key: tls: private key does not match public key"))
    );
    let garbage = Some(room.folder.write("garbage", "garbage"));
    for (settings, expected) in [
        (
            TlsSettings { cert_file: garbage.clone(), ..settings.clone() },
            "tls: failed to find any PEM data in certificate input",
        ),
        (
            TlsSettings { key_file: garbage.clone(), ..settings.clone() },
            "tls: failed to find any PEM data in key input",
        ),
        (TlsSettings { trusted_ca_file: garbage.clone(), ..settings.clone() }, "holds no PEM certificate"),
        (TlsSettings { crl_file: garbage, ..settings.clone() }, "is no certificate revocation list"),
    ] {
        assert_eq!(told(&settings), Some(format!("{folder}/garbage: {expected}")));
    }
}

#[tokio::test]
async fn thousands_that_say_nothing_starve_nobody() {
    let room = Room::new("silent");
    let server = Server::start(Endpoint::Client, &room.settings).await;
    let trusts = room.authority.pem();
    // Both ends of a connection are files of this process; more than the handshakes that may be in progress in any case.
    let files_max = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(files_max / 3).unwrap_or(usize::MAX).min(3_000);
    let mut silent = Vec::with_capacity(count);
    for number in 0..count {
        let mut tcp = TcpStream::connect(server.address).await.expect("connect");
        if number % 2 == 0 {
            // The beginning of a record that never goes on.
            tcp.write_all(&[0x16, 3, 1, 2, 0]).await.expect("write");
        }
        silent.push(tcp);
    }
    let client = Client::new(&trusts, None);
    let line = timeout(Duration::from_secs(5), client.ask(&server)).await;
    assert_eq!(line.expect("far sooner than a handshake's deadline"), Ok("nobody x".to_owned()));
}

#[tokio::test]
async fn plain_talk_on_an_encrypted_port_is_cut_and_on_a_mixed_one_served() {
    let room = Room::new("plain");
    let server = Server::start(Endpoint::Client, &room.settings).await;
    let talk = async |server: &Server| {
        let mut tcp = TcpStream::connect(server.address).await.expect("connect");
        tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("write");
        let mut answer = Vec::new();
        let _ = timeout(DEADLINE, tcp.read_to_end(&mut answer)).await.expect("in time");
        answer
    };
    assert!(!talk(&server).await.starts_with(b"nobody"));
    let trusts = room.authority.pem();
    assert!(Client::new(&trusts, None).ask(&server).await.is_ok(), "and nothing else is harmed");

    let acceptor = TlsAcceptor::new(Endpoint::Client, &room.settings).expect("settings");
    let mixed = Server::serve(Security::Either(Arc::new(acceptor))).await;
    assert!(talk(&mixed).await.starts_with(b"nobody G\n"));
    assert_eq!(Client::new(&trusts, None).ask(&mixed).await, Ok("nobody x".to_owned()));
}

#[tokio::test]
async fn a_self_made_certificate_is_served() {
    let folder = Folder::new("made");
    let generated = GeneratedCertificate {
        folder: folder.path().join("fixtures/client"),
        hosts: vec!["localhost".to_owned()],
        validity_years: 1,
    };
    let settings =
        TlsSettings { generated: Some(generated.clone()), version_max: TlsVersion::Tls13, ..TlsSettings::default() };
    let server = Server::start(Endpoint::Client, &settings).await;
    let pem = std::fs::read_to_string(generated.files().0).expect("made");
    assert_eq!(Client::new(&pem, None).ask(&server).await, Ok("nobody x".to_owned()));
}
