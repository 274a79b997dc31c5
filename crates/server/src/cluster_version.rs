//! The version that the cluster speaks: who names it first, and how it follows the members' and a downgrade.
//!
//! Owns the leader's look at the members' versions and its word about the cluster's. What a downgrade may be is decided in
//! the log ([`quorate_store::downgrade`]). Invariant: the version never changes while a member's own is unknown.

use crate::backend::Backend;
use crate::config::parse_url;
use crate::peer::{Transport, fetch};
use crate::version;
use quorate_proto::etcdserverpb::Member;
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{ClusterVersionSet, DowngradeSet};
use quorate_store::downgrade::MinorVersion;
use std::time::Duration;
use tokio::time::sleep;

/// How often the leader looks whether the version is to change, as in etcd.
const LOOK_INTERVAL: Duration = Duration::from_secs(4);
/// How long a member may take to tell its version.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
/// Pause before something that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The version of the stored data: the cluster's, once it has one (empty: not decided).
pub(crate) fn storage(cluster_version: &str) -> &str {
    if cluster_version.is_empty() { version::STORAGE } else { cluster_version }
}

/// The cluster's version as answers and metrics have it: without the patch.
pub(crate) fn major_minor(text: &str) -> String {
    text.rsplit_once('.').map_or(text, |(major_minor, _)| major_minor).to_owned()
}

/// Names the version when nobody has, then follows; for ever.
pub(crate) async fn run(backend: Backend, transport: Transport) {
    name_first(&backend).await;
    loop {
        sleep(LOOK_INTERVAL).await;
        if let Some(wanted) = wanted_version(&backend, &transport).await {
            let (from, to) = (major_minor(&backend.reader().cluster_version()), major_minor(&wanted.to_string()));
            tracing::info!(from, to, "updating cluster version using v3 API");
            let set = ClusterVersionSet { version: wanted.to_string() };
            match backend.propose(None, Operation::ClusterVersionSet(set)).await {
                Ok(_) => tracing::info!("cluster-version" = to, "cluster version is updated"),
                Err(error) => tracing::warn!(error = error.to_string(), "failed to update cluster version"),
            }
        }
    }
}

/// Ends a downgrade when all members have the version that it leads to; for ever. `interval`: `--downgrade-check-time`.
pub(crate) async fn run_downgrade_check(backend: Backend, transport: Transport, interval: Duration) {
    loop {
        sleep(interval).await;
        let target = backend.reader().downgrade_target();
        if target.is_empty() || !is_leader(&backend) {
            continue;
        }
        let versions = member_versions(&backend, &transport).await.unwrap_or_default();
        let target_version = MinorVersion::parse(&target);
        if versions.is_empty() || versions.iter().any(|version| Some(*version) != target_version) {
            continue;
        }
        tracing::info!("cluster-version" = target, "the cluster has been downgraded");
        let end = Operation::DowngradeSet(DowngradeSet::default());
        if let Err(error) = backend.propose(None, end).await {
            tracing::warn!(error = error.to_string(), "failed to cancel downgrade");
        }
    }
}

fn is_leader(backend: &Backend) -> bool {
    backend.status().leader == backend.identity().member_id
}

/// The first leader names the version that the cluster speaks.
async fn name_first(backend: &Backend) {
    let mut status = backend.subscribe_status();
    while backend.reader().cluster_version().is_empty() {
        if status.wait_for(|status| status.leader != 0).await.is_err() {
            return;
        }
        if is_leader(backend) {
            let set = ClusterVersionSet { version: version::STORAGE.to_owned() };
            if backend.propose(None, Operation::ClusterVersionSet(set)).await.is_ok() {
                tracing::info!("cluster-version" = version::STORAGE, "set initial cluster version");
                return;
            }
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// What the cluster's version is to become, by the leader's judgement.
async fn wanted_version(backend: &Backend, transport: &Transport) -> Option<MinorVersion> {
    if !is_leader(backend) {
        return None;
    }
    let cluster = MinorVersion::parse(&backend.reader().cluster_version())?;
    let target = MinorVersion::parse(&backend.reader().downgrade_target());
    let is_settled = match target {
        Some(target) => target == cluster,
        None => MinorVersion::parse(version::STORAGE) == Some(cluster),
    };
    if is_settled {
        return None;
    }
    let lowest = member_versions(backend, transport).await?.into_iter().min()?;
    decide(cluster, target, lowest)
}

/// A downgrade goes one step below the cluster's version and all members'; without one the version follows the lowest.
fn decide(cluster: MinorVersion, target: Option<MinorVersion>, lowest: MinorVersion) -> Option<MinorVersion> {
    match target {
        Some(target) if target == cluster => None,
        Some(target) if target == cluster.lower() && target == lowest.lower() => Some(target),
        Some(target) => {
            tracing::error!(
                "downgrade-target" = target.to_string(),
                "cluster-version" = cluster.to_string(),
                "minimal-server-version" = lowest.to_string(),
                "cannot downgrade to downgrade-target"
            );
            None
        }
        None => (cluster.major == lowest.major && cluster < lowest).then_some(lowest),
    }
}

/// Every member's own version; `None` when one of them does not tell it.
async fn member_versions(backend: &Backend, transport: &Transport) -> Option<Vec<MinorVersion>> {
    let own_id = backend.identity().member_id;
    let mut versions = Vec::new();
    for member in backend.reader().members() {
        versions.push(match member.id == own_id {
            true => MinorVersion::parse(version::ETCD)?,
            false => ask_version(&member, transport).await?,
        });
    }
    Some(versions)
}

async fn ask_version(member: &Member, transport: &Transport) -> Option<MinorVersion> {
    for url in &member.peer_ur_ls {
        let Ok(address) = parse_url(url) else { continue };
        let answer = fetch(&address, "/version", &transport.config().dialer, ANSWER_PATIENCE).await;
        let version = answer.ok().and_then(|answer| {
            let versions: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
            MinorVersion::parse(versions.get("etcdserver")?.as_str()?)
        });
        if version.is_some() {
            return version;
        }
    }
    tracing::warn!("remote-member-id" = format!("{:x}", member.id), "failed to get version");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_goes_down_by_a_downgrade_and_up_with_the_lowest_member() {
        let version = |text: &str| MinorVersion::parse(text).expect("a version");
        let decided = |cluster: &str, target: Option<&str>, lowest: &str| {
            decide(version(cluster), target.map(version), version(lowest)).map(|version| version.to_string())
        };
        assert_eq!(decided("3.7", Some("3.6"), "3.7.3").as_deref(), Some("3.6.0"));
        assert_eq!(decided("3.6", Some("3.6"), "3.7.3"), None, "done");
        assert_eq!(decided("3.7", Some("3.6"), "3.6.5"), None, "a member is there before its cluster");
        assert_eq!(decided("3.7", Some("3.5"), "3.7.3"), None, "two steps");
        assert_eq!(decided("3.6", None, "3.7.3").as_deref(), Some("3.7.0"));
        assert_eq!(decided("3.7", None, "3.7.3"), None);
        assert_eq!(decided("3.7", None, "3.6.3"), None, "never down without a downgrade");
        assert_eq!(decided("3.7", None, "4.0.0"), None, "another major version");
        assert_eq!(major_minor("3.6.0"), "3.6");
    }
}
