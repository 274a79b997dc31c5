//! Joining a running cluster: what its members say of it, held against this member's settings.
//!
//! Owns the questions to the others' peer ports and every reason not to join. The log and the data come later, by raft.
//! Invariant: whoever passes has the id that the cluster gave it, and knows everybody whom the cluster knows.

use crate::config::{Address, Config, parse_url};
use crate::peer::{ETCD_CLUSTER_HEADER, Fetched, VERSION_HEADER, fetch};
use crate::tls::TlsDialer;
use anyhow::{anyhow, bail, ensure};
use quorate_proto::etcdserverpb::Member;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// How long one member may take to answer a member that joins, as in etcd.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take when the answer is only a precaution, as in etcd.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);
/// The oldest cluster version that this release joins.
const CLUSTER_VERSION_MIN: (u64, u64) = (3, 0);

/// A cluster, as one of its members tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cluster {
    pub(crate) id: u64,
    pub(crate) members: Vec<Member>,
    /// Whether the answer came from Quorate.
    is_quorate: bool,
}

/// The cluster that `--initial-cluster` names, and this member's id in it; the error is etcd's word with an explanation.
pub(crate) async fn join(config: &Config, dialer: &TlsDialer) -> anyhow::Result<(Cluster, u64)> {
    config.verify_join().map_err(|reason| anyhow!(reason))?;
    let urls = remote_urls(config);
    let Some(cluster) = ask_members(&urls, dialer, JOIN_PATIENCE, true).await else {
        bail!(
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs \
             (asked: {}). One of them must be a running member of the cluster",
            urls.join(",")
        );
    };
    let own_id = match_members(config, &cluster).await?;
    ensure!(
        cluster.is_quorate,
        "incompatible with current running cluster: it answers as etcd. Members of etcd and of Quorate share no log; move \
         the data by a snapshot instead"
    );
    ensure!(is_compatible(&urls, dialer).await, "incompatible with current running cluster");
    let learners = cluster.members.iter().filter(|member| member.is_learner).count();
    ensure!(learners <= config.max_learners, "membership: too many learner members in cluster");
    Ok((cluster, own_id))
}

/// Whether a new member may help to make its cluster: not when the others run one already that has other addresses, or that
/// has this member in it, whose data was lost then. The error says which settings differ.
///
/// A cluster at the same addresses that has another token is one that this one takes over from, member by member: neither
/// hears the other, and a warning tells what is the case if that is a mistake.
pub(crate) async fn check_new(
    config: &Config,
    dialer: &TlsDialer,
    own_id: u64,
    own_cluster_id: u64,
) -> anyhow::Result<()> {
    let Some(cluster) = ask_members(&remote_urls(config), dialer, LOOK_PATIENCE, false).await else { return Ok(()) };
    if cluster.id != own_cluster_id {
        let differing = differing_settings(config, &cluster, own_cluster_id);
        let is_known = cluster.members.iter().any(|member| member.id == own_id);
        if is_known || known_urls(&cluster) != given_urls(config) {
            bail!(differing);
        }
        tracing::warn!(
            reason = differing.as_str(),
            "another cluster runs at these addresses; this member makes a new one"
        );
        return Ok(());
    }
    ensure!(
        !cluster.members.iter().any(|member| member.id == own_id && !member.client_ur_ls.is_empty()),
        "member {own_id:x} has already been bootstrapped: the cluster runs and knows it, but its data folder is empty. \
         Remove the member from the cluster, add it again, and start it with --initial-cluster-state=existing"
    );
    Ok(())
}

/// Which settings make this member's cluster another one than that which runs: a cluster's id comes of them all.
fn differing_settings(config: &Config, cluster: &Cluster, own_cluster_id: u64) -> String {
    let (known, given) = (known_urls(cluster), given_urls(config));
    let list = |urls: &BTreeSet<&str>| urls.iter().copied().collect::<Vec<_>>().join(",");
    let reason = if known == given {
        format!(
            "the peer URLs are the same, so --initial-cluster-token ({:?}) is another one than that with which the cluster \
             was made, or its members have changed since",
            config.initial_cluster_token
        )
    } else {
        let (missing, foreign) = (&known - &given, &given - &known);
        let told = |what: &str, urls: &BTreeSet<&str>| (!urls.is_empty()).then(|| format!("{what} {}", list(urls)));
        let told = [told("it lacks", &missing), told("the cluster does not have", &foreign)];
        format!("--initial-cluster has other peer URLs: {}", told.into_iter().flatten().collect::<Vec<_>>().join("; "))
    };
    format!(
        "cluster ID mismatch: the members that --initial-cluster names run the cluster {:x}, and these settings make the \
         cluster {own_cluster_id:x}: {reason}. To join the running cluster, add this member with `member add` and start it \
         with --initial-cluster-state=existing and what that printed",
        cluster.id
    )
}

/// The peer URLs of all that the cluster knows.
fn known_urls(cluster: &Cluster) -> BTreeSet<&str> {
    cluster.members.iter().flat_map(|member| &member.peer_ur_ls).map(String::as_str).collect()
}

/// The peer URLs of all that `--initial-cluster` names.
fn given_urls(config: &Config) -> BTreeSet<&str> {
    config.initial_cluster.values().flatten().map(String::as_str).collect()
}

/// The others' peer URLs, sorted.
fn remote_urls(config: &Config) -> Vec<String> {
    let others = config.initial_cluster.iter().filter(|(name, _)| **name != config.name);
    let urls: BTreeSet<String> = others.flat_map(|(_, urls)| urls.iter().cloned()).collect();
    urls.into_iter().collect()
}

/// Asks one after the other; the first answer counts.
async fn ask_members(urls: &[String], dialer: &TlsDialer, patience: Duration, is_logged: bool) -> Option<Cluster> {
    for url in urls {
        let Ok(address) = parse_url(url) else { continue };
        let failure = match fetch(&address, "/members", dialer, patience).await {
            Ok(fetched) => match parse_members(&fetched) {
                Some(cluster) if !cluster.members.is_empty() => return Some(cluster),
                _ => "failed to unmarshal cluster response".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        if is_logged {
            tracing::warn!(
                address = format!("{url}/members"),
                error = failure.as_str(),
                "failed to get cluster response"
            );
        }
    }
    None
}

fn parse_members(fetched: &Fetched) -> Option<Cluster> {
    let header = |name: &str| fetched.headers.get(name).and_then(|value| value.to_str().ok());
    let id = u64::from_str_radix(header(ETCD_CLUSTER_HEADER)?, 16).ok()?;
    let list: serde_json::Value = serde_json::from_slice(&fetched.body).ok()?;
    let members = list.as_array()?.iter().map(parse_member).collect::<Option<Vec<Member>>>()?;
    Some(Cluster { id, members, is_quorate: header(VERSION_HEADER).is_some() })
}

fn parse_member(value: &serde_json::Value) -> Option<Member> {
    let texts = |name: &str| match value.get(name).and_then(|list| list.as_array()) {
        None => Some(Vec::new()),
        Some(list) => list.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
    };
    Some(Member {
        id: value.get("id")?.as_u64()?,
        name: value.get("name").and_then(|name| name.as_str()).unwrap_or_default().to_owned(),
        peer_ur_ls: texts("peerURLs")?,
        client_ur_ls: texts("clientURLs")?,
        is_learner: value.get("isLearner").and_then(serde_json::Value::as_bool).unwrap_or(false),
    })
}

/// Holds `--initial-cluster` against the cluster's members; answers the own id.
async fn match_members(config: &Config, cluster: &Cluster) -> anyhow::Result<u64> {
    let listed: BTreeMap<&String, &Vec<String>> = config.initial_cluster.iter().collect();
    let describe = || {
        let known = cluster.members.iter().map(|member| {
            let name = if member.name.is_empty() { "(not started)" } else { &member.name };
            format!("{name}={}", member.peer_ur_ls.join("|"))
        });
        let given = listed.iter().map(|(name, urls)| format!("{name}={}", urls.join("|")));
        format!(
            "the cluster {:x} has the members {}; --initial-cluster has {}. Set --initial-cluster to what `member add` \
             printed",
            cluster.id,
            known.collect::<Vec<_>>().join(","),
            given.collect::<Vec<_>>().join(",")
        )
    };
    ensure!(
        cluster.members.len() == listed.len(),
        "error validating peerURLs: member count is unequal: {}",
        describe()
    );
    let mut own_id = 0;
    for member in &cluster.members {
        let mut found = None;
        for (name, urls) in &listed {
            if same_urls(&member.peer_ur_ls, urls).await {
                found = Some(name);
                break;
            }
        }
        match found {
            Some(name) if **name == config.name => own_id = member.id,
            Some(_) => {}
            None => bail!(
                "error validating peerURLs: PeerURLs: no match found for existing member ({:x}, [{}]): {}",
                member.id,
                member.peer_ur_ls.join(" "),
                describe()
            ),
        }
    }
    ensure!(own_id != 0, "error validating peerURLs: none of the cluster's members is this one: {}", describe());
    Ok(own_id)
}

/// Whether two lists of URLs lead to the same places.
async fn same_urls(one: &[String], other: &[String]) -> bool {
    let sorted = |urls: &[String]| urls.iter().cloned().collect::<BTreeSet<String>>();
    if sorted(one) == sorted(other) {
        return true;
    }
    match (resolve(one).await, resolve(other).await) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

async fn resolve(urls: &[String]) -> Option<BTreeSet<(String, SocketAddr)>> {
    let mut places = BTreeSet::new();
    for url in urls {
        let Address { scheme, host, port } = parse_url(url).ok()?;
        let place = tokio::net::lookup_host((host.as_str(), port)).await.ok()?.next()?;
        places.insert((scheme, place));
    }
    Some(places)
}

/// At least one member speaks a version that this release joins, and none another one.
async fn is_compatible(urls: &[String], dialer: &TlsDialer) -> bool {
    let mut is_compatible = false;
    for url in urls {
        let Ok(address) = parse_url(url) else { continue };
        let Ok(fetched) = fetch(&address, "/version", dialer, JOIN_PATIENCE).await else { continue };
        let Ok(versions) = serde_json::from_slice::<serde_json::Value>(&fetched.body) else { continue };
        let Some(text) = versions.get("etcdcluster").and_then(|text| text.as_str()) else { continue };
        let Some(version) = major_minor(text) else { continue };
        if version < CLUSTER_VERSION_MIN || Some(version) > major_minor(crate::version::STORAGE) {
            tracing::warn!(
                "remote-peer-url" = url.as_str(),
                "remote-member-cluster-version" = text,
                "cluster version of remote member is not compatible"
            );
            return false;
        }
        is_compatible = true;
    }
    is_compatible
}

fn major_minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn fetched(body: &str) -> Fetched {
        let mut headers = http::HeaderMap::new();
        headers.insert(ETCD_CLUSTER_HEADER, http::HeaderValue::from_static("cdf818194e3a8c32"));
        Fetched { status: http::StatusCode::OK, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn the_answer_of_a_peer_port_is_read() {
        let cluster = parse_members(&fetched(
            r#"[{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default",
                "clientURLs":["http://localhost:2379"]},{"id":7,"peerURLs":["http://b:1"],"isLearner":true}]"#,
        ))
        .expect("a cluster");
        assert_eq!((cluster.id, cluster.members.len()), (0xcdf8_1819_4e3a_8c32, 2));
        assert_eq!(cluster.members[0].id, 0x8e9e_05c5_2164_694d);
        assert!(cluster.members[1].is_learner && cluster.members[1].name.is_empty() && !cluster.is_quorate);
        for garbage in ["", "{}", "[1]", r#"[{"id":-1}]"#, r#"[{"id":1,"peerURLs":[3]}]"#] {
            assert_eq!(parse_members(&fetched(garbage)), None, "{garbage}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(major_minor("3.10.0"), Some((3, 10)));
        assert_eq!(major_minor("not_decided"), None);
    }
}
