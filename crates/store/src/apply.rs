//! Commands: what each one does to the state. The one place that decides.

use crate::auth::{Act, Changed};
use crate::change::Change;
use crate::downgrade;
use crate::error::{DiskError, Error};
use crate::integrity::Verdict;
use crate::outcome::{LeaseChange, Outcome, Reply, ReplyBody};
use crate::range::KeyRange;
use crate::revlog::RevLog;
use crate::state::{Core, State};
use crate::txn::{self, Failure};
use crate::watch::EventRecord;
use quorate_proto::Message;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use quorate_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, PutRequest, TxnRequest};
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Command, DigestReport, LeaseExpire, MemberPublish, V2Change, V2Expire};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// On whose behalf a command is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// The cluster, by itself.
    Cluster,
    /// Somebody outside.
    Client,
}

/// What applying needs at hand.
pub(crate) struct Applier<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) state: &'a mut State,
    pub(crate) log: &'a mut RevLog,
    /// Where events go; `None` when nobody watches.
    pub(crate) events: Option<&'a mut Vec<EventRecord>>,
    pub(crate) scratch: &'a mut Vec<u8>,
    pub(crate) outcome: &'a mut Outcome,
    /// The entry's index.
    pub(crate) index: u64,
    /// The entry's term.
    pub(crate) term: u64,
    /// Compactions: the compact revision before and after each.
    pub(crate) compacted: &'a mut Vec<(i64, i64)>,
}

impl Applier<'_> {
    /// Applies one command; its caller's answer goes into the outcome when `answer` says that the caller waits here.
    pub(crate) fn apply(&mut self, command: &Command, answer: bool) -> Result<(), DiskError> {
        let operation = command.operation.as_ref();
        let refusal = operation.and_then(|operation| self.alarm_against(operation)).or_else(|| {
            let act = Act::of(operation);
            self.state.auth.authorize(command.caller.as_ref(), act, &self.state.leases).err().map(Error::Auth)
        });
        let body = if let Some(error) = refusal {
            Err(error)
        } else {
            let asks = command.caller.as_ref().is_some_and(|caller| caller.cluster);
            match self.operate(operation, answer, if asks { Asker::Cluster } else { Asker::Client }) {
                Ok(body) => Ok(Reply { revision: self.state.revision, body }),
                // A record that only this member cannot read: to go on without the command would make its state another.
                Err(Failure::Outcome(Error::Corrupt)) => {
                    return Err(DiskError::corrupt("store", 0, "a transaction cannot read a record that it names"));
                }
                Err(Failure::Outcome(error)) => Err(error),
                Err(Failure::Disk(error)) => return Err(error),
            }
        };
        self.outcome.operations.count(operation, body.is_ok());
        if answer {
            self.outcome.replies.push((command.id, body));
        }
        Ok(())
    }

    /// What a raised alarm refuses. As in etcd it comes before the question who asks.
    fn alarm_against(&self, operation: &Operation) -> Option<Error> {
        if self.state.alarms.is_empty() {
            return None;
        }
        if self.state.is_alarmed_corrupt() && touches_data(operation) {
            return Some(Error::Corrupt);
        }
        (self.state.is_alarmed_full() && takes_space(operation)).then_some(Error::NoSpace)
    }

    fn operate(&mut self, operation: Option<&Operation>, answer: bool, asker: Asker) -> Result<ReplyBody, Failure> {
        match operation {
            Some(Operation::Put(request)) => self.put(request, answer),
            Some(Operation::DeleteRange(request)) => {
                let response = self.change(|change| txn::delete_range(change, request, answer))?;
                Ok(ReplyBody::DeleteRange(Box::new(response)))
            }
            Some(Operation::Txn(request)) => self.txn(request, answer),
            Some(Operation::Compact(request)) => self.compact(request.revision),
            Some(Operation::LeaseGrant(request)) => {
                let renewals = self.state.leases.grant(request.id, request.ttl)?;
                self.note_lease(0x11, request.id);
                self.core.counters.leases_granted.fetch_add(1, Relaxed);
                self.outcome.leases.push(LeaseChange::Granted { id: request.id, ttl_s: request.ttl, renewals });
                Ok(ReplyBody::Lease { id: request.id, ttl_s: request.ttl })
            }
            Some(Operation::LeaseRevoke(request)) => self.end_lease(request.id),
            Some(Operation::LeaseRenew(request)) => {
                let (ttl_s, renewals) = self.state.leases.renew(request.id)?;
                self.note_lease(0x12, request.id);
                self.core.counters.leases_renewed.fetch_add(1, Relaxed);
                self.outcome.leases.push(LeaseChange::Renewed { id: request.id, renewals });
                Ok(ReplyBody::Lease { id: request.id, ttl_s })
            }
            Some(Operation::LeaseExpire(request)) => self.expire(request),
            Some(Operation::Alarm(request)) => Ok(self.alarm(request, asker)),
            Some(Operation::MemberPublish(request)) => Ok(self.publish(request)),
            Some(Operation::DowngradeSet(request)) => self.set_downgrade(&request.target),
            Some(Operation::ClusterVersionSet(request)) => {
                self.state.cluster_version.clone_from(&request.version);
                self.state.v2.note_version();
                self.outcome.members_changed = true;
                Ok(ReplyBody::Done)
            }
            Some(
                change @ (Operation::AuthEnable(_)
                | Operation::AuthDisable(_)
                | Operation::AuthUserAdd(_)
                | Operation::AuthUserDelete(_)
                | Operation::AuthUserChangePassword(_)
                | Operation::AuthUserGrantRole(_)
                | Operation::AuthUserRevokeRole(_)
                | Operation::AuthRoleAdd(_)
                | Operation::AuthRoleDelete(_)
                | Operation::AuthRoleGrantPermission(_)
                | Operation::AuthRoleRevokePermission(_)
                | Operation::AuthTokenKeySet(_)),
            ) => self.change_auth(change),
            // Such a change has an entry of its own; in a batch it is nobody's.
            Some(Operation::MemberChange(_)) | None => Ok(ReplyBody::Done),
            Some(Operation::V2Change(change)) => Ok(self.change_v2(change)),
            Some(Operation::V2Expire(expire)) => Ok(self.expire_v2(expire)),
            Some(Operation::DigestCheck(_)) => {
                self.state.digest_round.open(self.index);
                self.outcome.digest_asked = Some((self.index, self.state.digest));
                Ok(ReplyBody::Done)
            }
            Some(Operation::DigestReport(report)) => Ok(self.judge(report)),
        }
    }

    /// Runs changes and counts them.
    fn change<T>(&mut self, run: impl FnOnce(&mut Change<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut change = Change::new(self.state, self.log, self.events.as_deref_mut(), self.scratch);
        let result = run(&mut change);
        self.core.counters.puts.fetch_add(change.put, Relaxed);
        self.core.counters.put_bytes.fetch_add(change.put_bytes, Relaxed);
        self.core.counters.deletes.fetch_add(change.deleted, Relaxed);
        result
    }

    fn note_lease(&mut self, kind: u8, id: i64) {
        let mut bytes = [kind; 9];
        bytes[1..].copy_from_slice(&id.to_be_bytes());
        self.state.digest(&bytes);
    }

    fn put(&mut self, request: &PutRequest, answer: bool) -> Result<ReplyBody, Failure> {
        txn::check_lease(self.state, request)?;
        txn::check_previous(self.state, request)?;
        let response = self.change(|change| txn::put(change, request, answer))?;
        Ok(ReplyBody::Put(Box::new(response)))
    }

    fn txn(&mut self, request: &TxnRequest, answer: bool) -> Result<ReplyBody, Failure> {
        self.core.counters.txns.fetch_add(1, Relaxed);
        let path = txn::choose(self.state, request)?;
        txn::check(self.state, request, &mut path.iter().copied())?;
        let core = self.core.clone();
        let mut response =
            self.change(|change| txn::execute(&core, change, request, &mut path.iter().copied(), answer))?;
        if let Some(header) = &mut response.header {
            header.revision = self.state.revision;
        }
        Ok(ReplyBody::Txn(Box::new(response)))
    }

    fn compact(&mut self, revision: i64) -> Result<ReplyBody, Failure> {
        if revision <= self.state.compact_revision {
            return Err(Error::Compacted.into());
        }
        if revision > self.state.revision {
            return Err(Error::FutureRevision.into());
        }
        self.compacted.push((self.state.compact_revision, revision));
        self.state.compact_revision = revision;
        self.state.digest(&revision.to_be_bytes());
        Ok(ReplyBody::Done)
    }

    fn end_lease(&mut self, id: i64) -> Result<ReplyBody, Failure> {
        let keys = self.state.leases.end(id)?;
        self.note_lease(0x13, id);
        self.change(|change| {
            for key in &keys {
                change.delete_range(&KeyRange::new(key.clone(), bytes::Bytes::new()))?;
            }
            Ok(())
        })?;
        self.core.counters.leases_revoked.fetch_add(1, Relaxed);
        self.outcome.leases.push(LeaseChange::Ended { id });
        Ok(ReplyBody::Done)
    }

    /// The leader's word counts only in its own term, and only if nobody renewed the lease after it looked.
    fn expire(&mut self, request: &LeaseExpire) -> Result<ReplyBody, Failure> {
        let stands = request.term == self.term
            && self.state.leases.get(request.id).is_some_and(|lease| lease.renewals == request.renewals);
        if !stands {
            return Ok(ReplyBody::Done);
        }
        self.core.counters.leases_expired.fetch_add(1, Relaxed);
        self.end_lease(request.id)
    }

    /// A member's word in a round of digests: whoever differs from the majority is named.
    fn judge(&mut self, report: &DigestReport) -> ReplyBody {
        let State { digest_round, members, .. } = &mut *self.state;
        let named = match digest_round.take(report, members) {
            Verdict::None => return ReplyBody::Done,
            Verdict::Differing(members) => members,
            // etcd names nobody then, too: the cluster as a whole is in doubt.
            Verdict::Undecidable => vec![0],
        };
        for member in named {
            let alarm = (member, AlarmType::Corrupt as i32);
            if self.state.alarms.insert(alarm) {
                self.state.own_alarms.insert(alarm);
            }
            self.outcome.differing.push(member);
        }
        self.outcome.alarms_changed = true;
        ReplyBody::Done
    }

    /// What a client raised, a client clears: the cluster by itself takes back only what it raised by itself.
    fn alarm(&mut self, request: &AlarmRequest, asker: Asker) -> ReplyBody {
        let named = |alarm: &(u64, i32)| AlarmMember { member_id: alarm.0, alarm: alarm.1 };
        let none = AlarmType::None as i32;
        let alarms = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Activate) if request.alarm != none => {
                let alarm = (request.member_id, request.alarm);
                let is_new = self.state.alarms.insert(alarm);
                match asker {
                    Asker::Cluster if is_new => drop(self.state.own_alarms.insert(alarm)),
                    Asker::Cluster => {}
                    Asker::Client => drop(self.state.own_alarms.remove(&alarm)),
                }
                self.outcome.alarms_changed = true;
                vec![named(&(request.member_id, request.alarm))]
            }
            Ok(AlarmAction::Deactivate) => {
                let all = request.member_id == 0 && request.alarm == none;
                let gone: Vec<_> = self
                    .state
                    .alarms
                    .iter()
                    .filter(|alarm| all || **alarm == (request.member_id, request.alarm))
                    .filter(|alarm| asker == Asker::Client || self.state.own_alarms.contains(*alarm))
                    .copied()
                    .collect();
                for alarm in &gone {
                    self.state.alarms.remove(alarm);
                    self.state.own_alarms.remove(alarm);
                }
                self.outcome.alarms_changed |= !gone.is_empty();
                gone.iter().map(named).collect()
            }
            Ok(AlarmAction::Get) => {
                let wanted = |alarm: &&(u64, i32)| request.alarm == none || alarm.1 == request.alarm;
                self.state.alarms.iter().filter(wanted).map(named).collect()
            }
            _ => Vec::new(),
        };
        ReplyBody::Alarms(alarms)
    }

    fn change_auth(&mut self, operation: &Operation) -> Result<ReplyBody, Failure> {
        if Arc::make_mut(&mut self.state.auth).change(operation).map_err(Error::Auth)? == Changed::Yes {
            let mut bytes = vec![0x21];
            operation.encode(&mut bytes);
            self.state.digest(&bytes);
            self.core.set_auth(&self.state.auth);
        }
        Ok(ReplyBody::Done)
    }

    fn change_v2(&mut self, change: &V2Change) -> ReplyBody {
        let answer = self.state.v2.change(change, &self.core.v2_hub, &self.core.v2_stats);
        if answer.outcome.is_ok() {
            let mut bytes = vec![0x31];
            bytes.extend_from_slice(&answer.index.to_be_bytes());
            change.encode(&mut bytes).expect("a vector grows");
            self.state.digest(&bytes);
        }
        ReplyBody::V2(Box::new(answer))
    }

    /// The leader's clock counts only in its own term. It needs no more: a node whose time was prolonged before this
    /// command, in the log's order, has another deadline.
    fn expire_v2(&mut self, request: &V2Expire) -> ReplyBody {
        if request.term == self.term {
            let events = self.state.v2.expire(request.time_ns, &self.core.v2_hub, &self.core.v2_stats);
            for event in events {
                let mut bytes = vec![0x32];
                bytes.extend_from_slice(&event.index().to_be_bytes());
                bytes.extend_from_slice(&event.node.path);
                self.state.digest(&bytes);
            }
        }
        ReplyBody::Done
    }

    fn set_downgrade(&mut self, target: &str) -> Result<ReplyBody, Failure> {
        let state = &mut *self.state;
        if !target.is_empty() {
            downgrade::check(&state.cluster_version, &state.downgrade_target, target)?;
        } else if state.downgrade_target.is_empty() {
            return Err(Error::NoInflightDowngrade.into());
        }
        state.downgrade_target.replace_range(.., target);
        state.digest(&[&[0x41], target.as_bytes()].concat());
        Ok(ReplyBody::Done)
    }

    fn publish(&mut self, request: &MemberPublish) -> ReplyBody {
        if let Some(member) = self.state.members.get_mut(request.member_id) {
            member.name.clone_from(&request.name);
            member.client_ur_ls.clone_from(&request.client_urls);
            self.outcome.members_changed = true;
            self.state.v2.note_member(request.member_id);
        }
        ReplyBody::Done
    }
}

/// What a cluster with a CORRUPT alarm refuses, as in etcd. The rest (renewals, alarms, members) goes on: it is what gets
/// the cluster out of that state.
fn touches_data(operation: &Operation) -> bool {
    match operation {
        Operation::Put(_)
        | Operation::DeleteRange(_)
        | Operation::Txn(_)
        | Operation::Compact(_)
        | Operation::LeaseGrant(_)
        | Operation::LeaseRevoke(_)
        | Operation::LeaseExpire(_)
        | Operation::V2Change(_)
        | Operation::V2Expire(_) => true,
        Operation::LeaseRenew(_)
        | Operation::Alarm(_)
        | Operation::MemberPublish(_)
        | Operation::ClusterVersionSet(_)
        | Operation::DowngradeSet(_)
        | Operation::AuthEnable(_)
        | Operation::AuthDisable(_)
        | Operation::AuthUserAdd(_)
        | Operation::AuthUserDelete(_)
        | Operation::AuthUserChangePassword(_)
        | Operation::AuthUserGrantRole(_)
        | Operation::AuthUserRevokeRole(_)
        | Operation::AuthRoleAdd(_)
        | Operation::AuthRoleDelete(_)
        | Operation::AuthRoleGrantPermission(_)
        | Operation::AuthRoleRevokePermission(_)
        | Operation::AuthTokenKeySet(_)
        | Operation::MemberChange(_)
        | Operation::DigestCheck(_)
        | Operation::DigestReport(_) => false,
    }
}

/// What a full store refuses.
fn takes_space(operation: &Operation) -> bool {
    match operation {
        Operation::Put(_) | Operation::LeaseGrant(_) => true,
        Operation::Txn(request) => txn_puts(request),
        _ => false,
    }
}

fn txn_puts(request: &TxnRequest) -> bool {
    use quorate_proto::etcdserverpb::request_op::Request;
    request.success.iter().chain(&request.failure).any(|operation| match &operation.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => txn_puts(nested),
        _ => false,
    })
}
