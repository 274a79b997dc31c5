//! The watch guarantees: every event of a watcher's range from its first revision on, once, in order, whole revisions
//! together, with the right previous value, and never a claim to be further than it is.
//!
//! A watcher whose connection broke goes on at another member from the revision behind the last one it was told of:
//! to this checker it is the same watcher. Only a compaction begins a new span.

use crate::check::log::CommittedLog;
use crate::history::Violation;
use quorate_proto::mvccpb::{Event, event::EventType};
use quorate_store::watch::WatchSpec;

const NAME: &str = "watch";

/// Something a watcher was told.
#[derive(Clone, Debug)]
pub enum Told {
    /// Events, and the revision up to which the watcher has everything.
    Events {
        /// In the header.
        revision: i64,
        /// Decoded.
        events: Vec<Event>,
    },
    /// It has everything up to this revision.
    Progress(i64),
    /// What it wants next is compacted; it goes on from this revision.
    Compacted(i64),
}

/// What one watcher saw.
#[derive(Clone, Debug)]
pub struct WatchTrack {
    /// What it asked for; its `start_revision` is the first revision that it has a right to.
    pub spec: WatchSpec,
    /// What it was told, in order.
    pub told: Vec<Told>,
    /// Whether it must have everything by the end of the run.
    pub complete: bool,
}

fn wanted(spec: &WatchSpec, event: &Event) -> bool {
    let filtered = if event.r#type() == EventType::Put { spec.no_put } else { spec.no_delete };
    !filtered && event.kv.as_ref().is_some_and(|kv| spec.range.contains(&kv.key))
}

/// Judges one watcher.
pub fn check(log: &CommittedLog, track: &WatchTrack) -> Result<(), Violation> {
    let wrong = |what: String| Violation::new(NAME, format!("{what}; watcher {:?}", track.spec));
    let compacted_at_last = log.compactions().last().map_or(0, |compaction| compaction.revision);
    // The first revision that is still owed.
    let mut next = track.spec.start_revision;
    for told in &track.told {
        match told {
            Told::Events { revision, events } => {
                let mut rest = &events[..];
                while let Some(first) = rest.first() {
                    let main = first.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                    if main < next {
                        return Err(wrong(format!("an event of revision {main} comes again or late, {next} is next")));
                    }
                    if let Some(missing) = owed_before(log, track, next, main) {
                        return Err(wrong(format!("revision {missing} was left out before {main}")));
                    }
                    let expected = expected_at(log, track, main);
                    let same = rest.len() >= expected.len()
                        && !expected.is_empty()
                        && expected
                            .iter()
                            .zip(rest)
                            .all(|(expected, got)| equal(expected, got, track.spec.prev_kv, compacted_at_last >= main));
                    if !same {
                        return Err(wrong(format!("at revision {main} told {rest:?}, the log says {expected:?}")));
                    }
                    rest = &rest[expected.len()..];
                    next = main + 1;
                }
                next = claimed(log, track, next, *revision).map_err(wrong)?;
            }
            Told::Progress(revision) => {
                // A client goes on from there after a break: it would get events again, or some it never asked for.
                if revision + 1 < next {
                    return Err(wrong(format!("progress to {revision} is told, {next} is next")));
                }
                next = claimed(log, track, next, *revision).map_err(wrong)?;
            }
            Told::Compacted(revision) => {
                if compacted_at_last < next.max(*revision) {
                    return Err(wrong(format!("told of a compaction at {revision}, {next} is next, none is known")));
                }
                next = (*revision).max(next);
            }
        }
    }
    if track.complete
        && let Some(missing) = owed_before(log, track, next, log.model().revision() + 1)
    {
        return Err(wrong(format!("revision {missing} never came")));
    }
    Ok(())
}

/// The watcher claims to have everything up to a revision: whether it does, and what is next then.
fn claimed(log: &CommittedLog, track: &WatchTrack, next: i64, revision: i64) -> Result<i64, String> {
    if revision > log.model().revision() {
        return Err(format!("revision {revision} is claimed, which never was"));
    }
    match owed_before(log, track, next, revision + 1) {
        Some(missing) => Err(format!("revision {revision} is claimed, but {missing} did not come")),
        None => Ok(next.max(revision + 1)),
    }
}

/// The first revision of `[from, before)` with an event for the watcher.
fn owed_before(log: &CommittedLog, track: &WatchTrack, from: i64, before: i64) -> Option<i64> {
    log.model()
        .events_from(from)
        .take_while(|(revision, _)| *revision < before)
        .find(|(_, events)| events.iter().any(|event| wanted(&track.spec, event)))
        .map(|(revision, _)| revision)
}

fn expected_at<'a>(log: &'a CommittedLog, track: &WatchTrack, revision: i64) -> Vec<&'a Event> {
    let at = log.model().events_from(revision).next().filter(|(found, _)| *found == revision);
    at.map_or_else(Vec::new, |(_, events)| events.iter().filter(|event| wanted(&track.spec, event)).collect())
}

/// A previous value that compaction took may be missing, but never wrong.
fn equal(expected: &Event, got: &Event, with_previous: bool, previous_may_be_gone: bool) -> bool {
    expected.r#type == got.r#type
        && expected.kv == got.kv
        && match (&got.prev_kv, with_previous) {
            (None, false) => true,
            (Some(_), false) => false,
            (None, true) => expected.prev_kv.is_none() || previous_may_be_gone,
            (Some(_), true) => got.prev_kv == expected.prev_kv,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::log::tests::{entry, put};
    use quorate_proto::etcdserverpb::{RequestOp, TxnRequest, request_op::Request};
    use quorate_proto::quoratepb::command::Operation;
    use quorate_store::range::KeyRange;

    /// a at 2, b at 3, a and b together at 4, c at 5.
    fn log() -> CommittedLog {
        let part = |key: &str| match put(key, "both") {
            Operation::Put(request) => RequestOp { request: Some(Request::RequestPut(request)) },
            _ => unreachable!(),
        };
        let both = TxnRequest { success: vec![part("a"), part("b")], ..Default::default() };
        let mut log = CommittedLog::new();
        for (index, operation) in
            [put("a", "1"), put("b", "2"), Operation::Txn(both), put("c", "4")].into_iter().enumerate()
        {
            let index = index as u64 + 1;
            log.observe_apply(1, &entry(index, 1, vec![(index, operation)]), 0).unwrap();
        }
        log
    }

    fn spec() -> WatchSpec {
        WatchSpec {
            watch_id: 0,
            range: KeyRange::all(),
            start_revision: 2,
            no_put: false,
            no_delete: false,
            prev_kv: true,
            progress_notify: false,
        }
    }

    fn events(log: &CommittedLog, revisions: &[i64]) -> Told {
        let mut events = Vec::new();
        for revision in revisions {
            events.extend(log.model().events_from(*revision).next().unwrap().1.iter().cloned());
        }
        Told::Events { revision: *revisions.last().unwrap(), events }
    }

    fn judge(told: Vec<Told>) -> Result<(), Violation> {
        check(&log(), &WatchTrack { spec: spec(), told, complete: true })
    }

    #[test]
    fn everything_once_in_order_passes() {
        let log = log();
        judge(vec![events(&log, &[2, 3]), Told::Progress(3), events(&log, &[4]), events(&log, &[5])]).unwrap();
    }

    #[test]
    fn dropped_repeated_late_and_torn_events_are_found() {
        let log = log();
        assert!(judge(vec![events(&log, &[2]), events(&log, &[4, 5])]).is_err(), "dropped in the middle");
        assert!(judge(vec![events(&log, &[2, 3, 4])]).is_err(), "dropped at the end");
        assert!(judge(vec![events(&log, &[2, 3]), events(&log, &[3, 4, 5])]).is_err(), "repeated");
        assert!(judge(vec![events(&log, &[3]), events(&log, &[2, 4, 5])]).is_err(), "out of order");
        let Told::Events { revision, events: mut torn } = events(&log, &[2, 3, 4]) else { unreachable!() };
        torn.pop();
        assert!(judge(vec![Told::Events { revision, events: torn }, events(&log, &[5])]).is_err(), "torn revision");
    }

    #[test]
    fn a_claim_too_far_and_a_wrong_previous_value_are_found() {
        let log = log();
        assert!(judge(vec![Told::Progress(2), events(&log, &[2, 3, 4, 5])]).is_err());
        assert!(judge(vec![events(&log, &[2, 3]), Told::Progress(2), events(&log, &[4, 5])]).is_err(), "backwards");
        let Told::Events { revision, events: mut wrong } = events(&log, &[2, 3, 4, 5]) else { unreachable!() };
        wrong[2].prev_kv.as_mut().unwrap().value = "9".into();
        assert!(judge(vec![Told::Events { revision, events: wrong.clone() }]).is_err());
        wrong[2].prev_kv = None;
        assert!(judge(vec![Told::Events { revision, events: wrong }]).is_err(), "nothing was compacted");
    }

    #[test]
    fn a_compaction_that_never_was_is_found() {
        let log = log();
        assert!(judge(vec![Told::Compacted(4), events(&log, &[4, 5])]).is_err());
    }

    #[test]
    fn filters_and_ranges_leave_out_what_they_say() {
        let log = log();
        let narrow = WatchSpec { range: KeyRange::new("c".into(), "".into()), ..spec() };
        check(&log, &WatchTrack { spec: narrow.clone(), told: vec![events(&log, &[5])], complete: true }).unwrap();
        assert!(check(&log, &WatchTrack { spec: narrow, told: vec![events(&log, &[2, 5])], complete: true }).is_err());
        let filtered = WatchSpec { no_put: true, ..spec() };
        check(&log, &WatchTrack { spec: filtered, told: vec![Told::Progress(5)], complete: true }).unwrap();
    }
}
