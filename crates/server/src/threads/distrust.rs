//! What becomes of the store when it is not to be trusted: it applies nothing more, and waits for another one.
//!
//! Owns the step from a store in use to one that is held, and back when a store was installed. The asking for another one
//! is the node's (`node/integrity`). Invariant: a distrusted store is never made durable, never sent, never read for a
//! client, and never applied to.

use super::apply::ApplyThread;
use crate::shutdown::die;
use quorate_node::api::{CommittedEntry, Input};
use quorate_node::held::HeldEntries;
use quorate_proto::etcdserverpb::AlarmType;
use quorate_store::outcome::Outcome;

impl ApplyThread {
    /// This member's id.
    fn own_id(&self) -> u64 {
        self.peers.config().member_id
    }

    /// Whether another member could have a store to give.
    pub(super) fn has_others(&self) -> bool {
        self.store.reader().members().len() > 1
    }

    /// Before anything is applied: the alarm over this member may stand since its last life. Then nobody knows whether it
    /// was repaired, so it is.
    pub(super) fn look_at_own_alarm(&mut self) {
        let is_alarmed = self.tell_own_alarm();
        let reader = self.store.reader();
        if reader.is_quarantined() {
            self.distrust(&reader.corrupt_reason().unwrap_or_default(), Vec::new());
        } else if is_alarmed && self.has_others() {
            self.distrust("the alarm over this member's data was raised before it was stopped", Vec::new());
        } else if let Some(reason) = reader.corrupt_reason() {
            self.reader_found(&reason);
        }
    }

    /// A reader found a record broken. A member alone goes on with the others: nobody could give it another store.
    pub(super) fn reader_found(&mut self, reason: &str) {
        if self.held.is_some() {
            return;
        }
        if self.has_others() {
            self.distrust(reason, Vec::new());
        } else {
            tracing::error!(
                reason,
                "a stored record is broken and is not served; this is the only member, so it cannot be repaired: restore \
                 a backup"
            );
            self.mailbox.post(Input::StoreBroken);
        }
    }

    /// The store applies nothing more; `rest` is what it was about to apply.
    pub(super) fn distrust(&mut self, reason: &str, rest: Vec<CommittedEntry>) {
        tracing::error!(
            reason,
            "local-member-id" = format!("{:x}", self.own_id()),
            "this member's data is not to be trusted: it serves nobody until it has got a store from another member"
        );
        self.store.quarantine(reason);
        self.metrics.repairs_begun.increment();
        self.compaction = None;
        self.held = Some(HeldEntries::default());
        self.hold(rest);
        self.mailbox.post(Input::StoreBroken);
    }

    pub(super) fn hold(&mut self, entries: Vec<CommittedEntry>) {
        let held = self.held.as_mut().expect("only a distrusted store holds entries back");
        if held.hold(entries).is_err() {
            die("too much happened while this member waited for a store from another one", &"start it again");
        }
    }

    /// The store is another one: what waited for it is applied.
    pub(super) fn trust_again(&mut self, index: u64) {
        let Some(mut held) = self.held.take() else { return };
        tracing::info!(
            "applied-index" = index,
            "local-member-id" = format!("{:x}", self.own_id()),
            "this member's data was repaired from another member"
        );
        self.metrics.repairs_done.increment();
        self.tell_own_alarm();
        self.apply(held.release(index));
    }

    /// What an entry says of the members' data. Answers why this member's store is not to be trusted, if it says so.
    pub(super) fn heed(&mut self, outcome: &Outcome) -> Option<&'static str> {
        if let Some((index, digest)) = outcome.digest_asked {
            self.mailbox.post(Input::DigestAsked { index, digest });
        }
        if outcome.alarms_changed {
            self.tell_own_alarm();
        }
        let own_id = self.own_id();
        for member in outcome.differing.iter().filter(|member| **member != own_id) {
            tracing::error!(
                "alarmed-member-id" = format!("{member:x}"),
                "the members' data differs: the alarm names the one that is not like the majority (0: there is no majority)"
            );
        }
        outcome.differing.contains(&own_id).then_some("its digest is not that of the majority of the members")
    }

    fn tell_own_alarm(&self) -> bool {
        let own = (self.own_id(), AlarmType::Corrupt as i32);
        let stands = self.store.reader().own_alarms().iter().any(|alarm| (alarm.member_id, alarm.alarm) == own);
        self.mailbox.post(Input::OwnAlarm { stands });
        stands
    }
}
