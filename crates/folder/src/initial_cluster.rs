//! The members that a restored cluster begins with, as `--initial-cluster` names them to the offline tools.
//!
//! Owns reading that text and judging it, in etcdutl's words (a server's own start has its own). Invariant: URLs of a
//! member are valid, sorted, and there once.

use crate::member_ids::{cluster_id, member_id};
use crate::urls;
use quorate_proto::etcdserverpb::Member;
use std::collections::{BTreeMap, BTreeSet};

/// The members of a new cluster, and which of them is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCluster {
    /// All members, by their ids.
    pub members: Vec<Member>,
    /// This one.
    pub member_id: u64,
    /// The cluster.
    pub cluster_id: u64,
}

/// URLs of one member, checked and sorted.
fn checked(urls: &[&str]) -> Result<Vec<String>, String> {
    let mut sorted = Vec::with_capacity(urls.len());
    for url in urls.iter().map(|url| url.trim()) {
        urls::parse(url)?;
        sorted.push(url.to_owned());
    }
    sorted.sort();
    Ok(sorted)
}

/// How two sorted lists of URLs differ.
fn difference(left: &[String], right: &[String]) -> String {
    let quoted = |urls: &[String]| urls.iter().map(|url| format!("{url:?}")).collect::<Vec<_>>().join(" ");
    if left.len() != right.len() {
        return format!("len([{}]) != len([{}])", quoted(left), quoted(right));
    }
    let differing = std::iter::zip(left, right).find(|(left, right)| left != right);
    differing.map_or_else(String::new, |(left, right)| format!("resolved urls: {left:?} != {right:?}"))
}

fn pairs(cluster: &BTreeMap<&str, Vec<String>>) -> String {
    let mut pairs: Vec<String> =
        cluster.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}"))).collect();
    pairs.sort();
    pairs.join(",")
}

impl NewCluster {
    /// `a=http://x:1,a=http://x:2,b=http://y:1`, of which `name`, reached at `advertised`, is this member.
    ///
    /// Refuses in etcdutl's words.
    pub fn parse(cluster: &str, token: &str, name: &str, advertised: &str) -> Result<Self, String> {
        let advertised = checked(&advertised.split(',').collect::<Vec<_>>())?;
        let mut listed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for pair in cluster.split(',').filter(|pair| !pair.is_empty()) {
            let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
            listed.entry(name).or_default().push(url);
        }
        let mut named: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, urls) in listed {
            named.insert(name, checked(&urls)?);
        }
        let Some(own) = named.get(name) else {
            return Err(format!("couldn't find local name {name:?} in the initial cluster configuration"));
        };
        let without = |urls: &[String], known: &[String]| -> Vec<String> {
            urls.iter().filter(|url| !known.contains(url)).cloned().collect()
        };
        let of_own = |urls: &[String]| urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",");
        let missing = without(own, &advertised);
        if !missing.is_empty() {
            return Err(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({})",
                of_own(&missing),
                advertised.join(","),
                difference(&advertised, own)
            ));
        }
        let missing = without(&advertised, own);
        if !missing.is_empty() {
            return Err(format!(
                "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
                missing.join(","),
                of_own(&advertised)
            ));
        }
        let mut seen = BTreeSet::new();
        if !named.values().flatten().all(|url| seen.insert(url)) {
            return Err(format!("initial cluster {} has duplicate url", pairs(&named)));
        }
        let own_id = member_id(own, token);
        let mut members: Vec<Member> = named
            .into_iter()
            .map(|(name, urls)| Member {
                id: member_id(&urls, token),
                name: name.to_owned(),
                peer_ur_ls: urls,
                ..Member::default()
            })
            .collect();
        members.sort_by_key(|member| member.id);
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        Ok(Self { members, member_id: own_id, cluster_id: cluster_id(&ids) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_etcds() {
        let cluster =
            NewCluster::parse("default=http://localhost:2380", "etcd-cluster", "default", "http://localhost:2380");
        let cluster = cluster.expect("valid");
        assert_eq!((cluster.member_id, cluster.cluster_id), (0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32));
    }

    #[test]
    fn refusals_are_etcdutls() {
        let refusal = |cluster: &str, name: &str, advertised: &str| {
            NewCluster::parse(cluster, "t", name, advertised).expect_err("refused")
        };
        assert_eq!(
            refusal("a=http://x:1", "b", "http://x:1"),
            "couldn't find local name \"b\" in the initial cluster configuration"
        );
        assert_eq!(
            refusal("a=http://x:1", "a", "http://x:2"),
            "--initial-cluster has a=http://x:1 but missing from --initial-advertise-peer-urls=http://x:2 (resolved urls: \
             \"http://x:2\" != \"http://x:1\")"
        );
        assert_eq!(
            refusal("a=http://x:1", "a", "http://x:1,http://x:2"),
            "--initial-advertise-peer-urls has http://x:2 but missing from --initial-cluster=a=http://x:1,a=http://x:2"
        );
        assert_eq!(
            refusal("a=http://x:1,b=http://x:1", "a", "http://x:1"),
            "initial cluster a=http://x:1,b=http://x:1 has duplicate url"
        );
        assert_eq!(refusal("a=x", "a", "http://x:1"), "URL scheme must be http, https, unix, or unixs: x");
    }
}
