//! What a change of members means for this process: what the log says of it, and the end of a member that was removed.
//!
//! Owns the notice of the own removal. The table of members is the store's, the connections are `peer`'s.

use quorate_proto::etcdserverpb::Member;
use tokio::sync::watch;

/// etcd's words for a member that is out for good.
pub(crate) const REMOVED: &str = "the member has been permanently removed from the cluster";

/// The notice that this member was removed; whoever learns of it first posts it.
pub(crate) struct Removal {
    posted: watch::Sender<bool>,
}

impl Default for Removal {
    fn default() -> Self {
        Self { posted: watch::Sender::new(false) }
    }
}

impl Removal {
    /// This member was removed.
    pub(crate) fn post(&self) {
        self.posted.send_replace(true);
    }

    /// Returns when it was.
    pub(crate) async fn posted(&self) {
        // The sender lives as long as `self`.
        let _ = self.posted.subscribe().wait_for(|posted| *posted).await;
    }
}

/// Tells how a member's process ends that was removed, in etcd's words.
pub(crate) fn log_own_removal() {
    tracing::warn!(error = REMOVED, "server error");
    tracing::warn!("data-dir used by this member must be removed");
}

/// Logs what a change did to the table.
pub(crate) fn log_changes(cluster_id: u64, own_id: u64, before: &[Member], after: &[Member]) {
    let (cluster_id, own_id) = (format!("{cluster_id:x}"), format!("{own_id:x}"));
    let find = |table: &[Member], id: u64| table.iter().find(|member| member.id == id).cloned();
    for member in after {
        let (id, urls) = (format!("{:x}", member.id), member.peer_ur_ls.join(","));
        match find(before, member.id) {
            None => tracing::info!(
                "cluster-id" = cluster_id,
                "local-member-id" = own_id,
                "added-peer-id" = id,
                "added-peer-peer-urls" = urls,
                "added-peer-is-learner" = member.is_learner,
                "added member"
            ),
            Some(known) if known.is_learner && !member.is_learner => tracing::info!(
                "cluster-id" = cluster_id,
                "local-member-id" = own_id,
                "promoted-member-id" = id,
                "promote member"
            ),
            Some(known) if known.peer_ur_ls != member.peer_ur_ls => tracing::info!(
                "cluster-id" = cluster_id,
                "local-member-id" = own_id,
                "updated-remote-peer-id" = id,
                "updated-remote-peer-urls" = urls,
                "updated-remote-peer-is-learner" = member.is_learner,
                "updated member"
            ),
            Some(_) => {}
        }
    }
    for member in before.iter().filter(|member| find(after, member.id).is_none()) {
        tracing::info!(
            "cluster-id" = cluster_id,
            "local-member-id" = own_id,
            "removed-remote-peer-id" = format!("{:x}", member.id),
            "removed-remote-peer-urls" = member.peer_ur_ls.join(","),
            "removed-remote-peer-is-learner" = member.is_learner,
            "removed member"
        );
    }
}
