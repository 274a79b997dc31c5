//! Nothing acknowledged is lost: when all members are back and well, each holds everything that anybody was told.
//!
//! Looks at what each member serves at the very end, through the same doors that clients use.

use crate::check::log::CommittedLog;
use crate::history::{Call, Outcome, Request, Violation};
use bytes::Bytes;
use quorate_proto::etcdserverpb::RangeRequest;
use quorate_proto::mvccpb::{Event, KeyValue};

const NAME: &str = "durability";

/// What a member holds at the end.
#[derive(Clone, Debug)]
pub struct Audit {
    /// The member.
    pub member: u64,
    /// The last index it applied.
    pub applied_index: u64,
    /// Its revision.
    pub revision: i64,
    /// All keys.
    pub records: Vec<KeyValue>,
    /// All leases: id, granted TTL and keys, ascending.
    pub leases: Vec<(i64, i64, Vec<Bytes>)>,
    /// Hash of the whole history and the compaction that it was taken behind.
    pub hash: (u32, i64),
    /// All events that are not compacted, in order, without previous values; `None`: the watcher was refused.
    pub events: Option<Vec<Event>>,
}

/// Judges the end of a run.
pub fn check(log: &CommittedLog, calls: &[Call], audits: &[Audit]) -> Result<(), Violation> {
    for (number, call) in calls.iter().enumerate() {
        let acknowledged = matches!(call.request, Request::Command(_))
            && matches!(call.outcome, Outcome::Answered(_) | Outcome::Rejected(_));
        if acknowledged && call.command_id.and_then(|id| log.command(id)).is_none() {
            return Err(Violation::new(NAME, format!("call {number} was acknowledged and is in no log: {call:?}")));
        }
    }
    let model = log.model();
    let everything =
        RangeRequest { key: Bytes::from_static(&[0]), range_end: Bytes::from_static(&[0]), ..Default::default() };
    let records = model.range_at(&everything, model.revision()).kvs;
    let leases: Vec<(i64, i64, Vec<Bytes>)> =
        model.leases().iter().map(|(id, lease)| (*id, lease.ttl_s, lease.keys.iter().cloned().collect())).collect();
    let events: Vec<Event> = model
        .events_from(model.compact_revision() + 1)
        .flat_map(|(_, events)| events.iter().cloned())
        .map(|event| Event { prev_kv: None, ..event })
        .collect();
    for (audit, next) in audits.iter().zip(audits.iter().skip(1)) {
        if audit.hash != next.hash {
            return Err(Violation::new(
                NAME,
                format!(
                    "members {} and {} hash their histories differently: {:?} and {:?}",
                    audit.member, next.member, audit.hash, next.hash
                ),
            ));
        }
    }
    for audit in audits {
        let member = audit.member;
        let wrong = |what: String| Err(Violation::new(NAME, format!("member {member}: {what}")));
        if audit.applied_index != log.last_index() {
            return wrong(format!("applied {} of {} entries", audit.applied_index, log.last_index()));
        }
        if audit.revision != model.revision() {
            return wrong(format!("is at revision {}, the log ends at {}", audit.revision, model.revision()));
        }
        if audit.records != records {
            return wrong(format!("holds {:?}, the log says {records:?}", audit.records));
        }
        if audit.leases != leases {
            return wrong(format!("holds leases {:?}, the log says {leases:?}", audit.leases));
        }
        if audit.events.as_ref() != Some(&events) {
            return wrong(format!("tells the history {:?}, the log says {events:?}", audit.events));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::log::tests::{entry, put};
    use crate::history::Answer;
    use crate::model::Body;
    use quorate_proto::etcdserverpb::PutResponse;

    fn log() -> CommittedLog {
        let mut log = CommittedLog::new();
        log.observe_apply(1, &entry(1, 1, vec![(1, put("a", "1"))]), 0).unwrap();
        log
    }

    fn audit() -> Audit {
        let log = log();
        let events: Vec<Event> = log.model().events_from(2).flat_map(|(_, events)| events.iter().cloned()).collect();
        let records = vec![events[0].kv.clone().unwrap()];
        Audit { member: 1, applied_index: 1, revision: 2, records, leases: vec![], hash: (7, -1), events: Some(events) }
    }

    #[test]
    fn a_full_member_passes_and_every_loss_is_found() {
        check(&log(), &[], &[audit()]).unwrap();
        assert!(check(&log(), &[], &[audit(), Audit { hash: (8, -1), ..audit() }]).is_err());
        assert!(check(&log(), &[], &[Audit { records: vec![], ..audit() }]).is_err());
        assert!(check(&log(), &[], &[Audit { events: Some(vec![]), ..audit() }]).is_err());
        assert!(check(&log(), &[], &[Audit { applied_index: 0, ..audit() }]).is_err());
        assert!(check(&log(), &[], &[Audit { leases: vec![(1, 1, vec![])], ..audit() }]).is_err());
    }

    #[test]
    fn an_acknowledged_write_in_no_log_is_found() {
        let call = Call {
            client: 0,
            member: 1,
            request: Request::Command(put("b", "1")),
            invoked_us: 0,
            completed_us: 1,
            command_id: Some(2),
            outcome: Outcome::Answered(Answer::Command { revision: 3, body: Body::Put(PutResponse::default()) }),
        };
        assert!(check(&log(), &[call], &[]).is_err());
    }
}
