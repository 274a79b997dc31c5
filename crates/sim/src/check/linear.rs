//! Linearizability: every call takes effect at one moment between its invocation and its answer.
//!
//! Revisions make it cheap. The committed log is the order of all writes, a read's header says behind which revision it
//! was taken, and each answer is compared with the model at that very place. What is left is real time: of two calls
//! where one ended before the other began, the places must be in that order.
//!
//! Serializable reads may be old, but must be true: they are held against the model only.

use crate::check::log::CommittedLog;
use crate::history::{Answer, Call, Outcome, Request, Violation};
use quorate_store::error::Error;

const NAME: &str = "linearizability";

/// A call's place: behind everything up to `after`, before everything that has `before` or more. Places are revisions,
/// and for commands positions in the log too.
#[derive(Clone, Copy, Debug)]
struct Place {
    invoked_us: u64,
    completed_us: u64,
    /// The smallest revision that a later call may be placed at.
    revision_after: i64,
    /// The largest revision that an earlier call may be placed at.
    revision_before: i64,
    /// Commands only: the place in the log.
    position: Option<u64>,
    call: usize,
}

fn describe(call: &Call, number: usize) -> String {
    format!(
        "call {number} of client {} at member {} ({:.6} s to {:.6} s): {:?}",
        call.client,
        call.member,
        call.invoked_us as f64 / 1e6,
        call.completed_us as f64 / 1e6,
        call.request,
    )
}

/// Judges all calls of a run. Calls still under way count as unknown.
pub fn check(log: &CommittedLog, calls: &[Call]) -> Result<(), Violation> {
    let mut places = Vec::with_capacity(calls.len());
    for (number, call) in calls.iter().enumerate() {
        let found = match &call.request {
            Request::Command(_) => command_place(log, call, number)?,
            Request::Range(_) => read_place(log, call, number)?,
            Request::LeaseRemaining(_) => None,
        };
        places.extend(found.map(|(revision_before, revision_after, position)| Place {
            invoked_us: call.invoked_us,
            completed_us: call.completed_us,
            revision_after,
            revision_before,
            position,
            call: number,
        }));
    }
    real_time(calls, places)?;
    compacted_reads(log, calls)
}

type Found = Option<(i64, i64, Option<u64>)>;

fn command_place(log: &CommittedLog, call: &Call, number: usize) -> Result<Found, Violation> {
    let committed = call.command_id.and_then(|id| log.command(id));
    let told = match &call.outcome {
        Outcome::Unknown => return Ok(None),
        Outcome::Refused => {
            return match committed {
                None => Ok(None),
                Some(committed) => Err(Violation::new(
                    NAME,
                    format!(
                        "refused as certainly not done, but committed at index {}: {}",
                        committed.index,
                        describe(call, number)
                    ),
                )),
            };
        }
        Outcome::Answered(Answer::Command { revision, body }) => Ok((*revision, body.clone())),
        Outcome::Rejected(error) => Err(error.clone()),
        Outcome::Answered(other) => unreachable!("a command is answered as one, not {other:?}"),
    };
    let Some(committed) = committed else {
        return Err(Violation::new(
            NAME,
            format!("answered, but in no committed entry: {}: {:?}", describe(call, number), call.outcome),
        ));
    };
    let expected = committed.result.clone().map(|body| (committed.revision_after, body));
    if told != expected {
        return Err(Violation::new(
            NAME,
            format!("{}: told {told:?}, the log (index {}) says {expected:?}", describe(call, number), committed.index),
        ));
    }
    Ok(Some((committed.revision_before, committed.revision_after, Some(committed.position))))
}

fn read_place(log: &CommittedLog, call: &Call, number: usize) -> Result<Found, Violation> {
    let Request::Range(request) = &call.request else { unreachable!("only ranges come here") };
    let Outcome::Answered(Answer::Range { revision, response }) = &call.outcome else { return Ok(None) };
    if *revision > log.model().revision() || *revision < 1 {
        return Err(Violation::new(
            NAME,
            format!("{}: read at revision {revision}, which never was", describe(call, number)),
        ));
    }
    let at = if request.revision > 0 { request.revision } else { *revision };
    if at > *revision {
        return Err(Violation::new(
            NAME,
            format!("{}: answered at revision {revision}, before the revision asked for", describe(call, number)),
        ));
    }
    let expected = log.model().range_at(request, at);
    if *response != expected {
        return Err(Violation::new(
            NAME,
            format!("{}: at revision {at} told {response:?}, the log says {expected:?}", describe(call, number)),
        ));
    }
    Ok((!request.serializable).then_some((*revision, *revision, None)))
}

fn real_time(calls: &[Call], mut places: Vec<Place>) -> Result<(), Violation> {
    let mut by_completion = places.clone();
    by_completion.sort_by_key(|place| (place.completed_us, place.call));
    places.sort_by_key(|place| (place.invoked_us, place.call));
    let mut completed = by_completion.iter().peekable();
    let mut newest: Option<Place> = None;
    let mut last_command: Option<Place> = None;
    for place in &places {
        while let Some(earlier) = completed.next_if(|earlier| earlier.completed_us < place.invoked_us) {
            if newest.is_none_or(|newest| earlier.revision_after > newest.revision_after) {
                newest = Some(*earlier);
            }
            if last_command.is_none_or(|last| earlier.position > last.position) {
                last_command = Some(*earlier);
            }
        }
        let wrong = |earlier: &Place| {
            Violation::new(
                NAME,
                format!(
                    "ended at revision {} before the other began, which took place at revision {}: {} // {}",
                    earlier.revision_after,
                    place.revision_before,
                    describe(&calls[earlier.call], earlier.call),
                    describe(&calls[place.call], place.call),
                ),
            )
        };
        if let Some(earlier) = newest.filter(|earlier| earlier.revision_after > place.revision_before) {
            return Err(wrong(&earlier));
        }
        if let Some(earlier) = last_command.filter(|last| place.position.is_some() && last.position > place.position) {
            return Err(wrong(&earlier));
        }
    }
    Ok(())
}

/// Reads at a revision: "compacted" needs a compaction above it, "future" must not hide what had happened already, and
/// behind an acknowledged compaction nobody is served from below it.
fn compacted_reads(log: &CommittedLog, calls: &[Call]) -> Result<(), Violation> {
    let mut acknowledged: Vec<(u64, i64)> = Vec::new();
    let mut known: Vec<(u64, i64)> = Vec::new();
    for call in calls {
        match (&call.request, &call.outcome) {
            (
                Request::Command(quorate_proto::quoratepb::command::Operation::Compact(request)),
                Outcome::Answered(_),
            ) => acknowledged.push((call.completed_us, request.revision)),
            (_, Outcome::Answered(Answer::Command { revision, .. } | Answer::Range { revision, .. })) => {
                known.push((call.completed_us, *revision));
            }
            _ => {}
        }
    }
    let highest_before = |list: &[(u64, i64)], time_us: u64| {
        list.iter().filter(|(completed_us, _)| *completed_us < time_us).map(|(_, revision)| *revision).max()
    };
    let compacted_at_last = log.compactions().last().map_or(0, |compaction| compaction.revision);
    for (number, call) in calls.iter().enumerate() {
        let Request::Range(request) = &call.request else { continue };
        let wrong = match &call.outcome {
            Outcome::Rejected(Error::Compacted) => request.revision >= compacted_at_last || request.revision <= 0,
            Outcome::Rejected(Error::FutureRevision) => {
                !request.serializable
                    && highest_before(&known, call.invoked_us).is_some_and(|revision| revision >= request.revision)
            }
            Outcome::Rejected(_) => true,
            Outcome::Answered(_) => {
                !request.serializable
                    && request.revision > 0
                    && highest_before(&acknowledged, call.invoked_us)
                        .is_some_and(|compacted| compacted > request.revision)
            }
            _ => false,
        };
        if wrong {
            return Err(Violation::new(
                NAME,
                format!("{}: {:?} (compacted at last: {compacted_at_last})", describe(call, number), call.outcome),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::log::tests::{entry, put};
    use crate::model::Body;
    use quorate_proto::etcdserverpb::{PutResponse, RangeRequest};

    /// Three puts of key a, values 1 to 3, at revisions 2 to 4, with command ids 1 to 3.
    fn log() -> CommittedLog {
        let mut log = CommittedLog::new();
        for (index, value) in [(1, "1"), (2, "2"), (3, "3")] {
            log.observe_apply(1, &entry(index, 1, vec![(index, put("a", value))]), index).unwrap();
        }
        log
    }

    fn write(id: u64, invoked_us: u64, completed_us: u64) -> Call {
        Call {
            client: 0,
            member: 1,
            request: Request::Command(put("a", &id.to_string())),
            invoked_us,
            completed_us,
            command_id: Some(id),
            outcome: Outcome::Answered(Answer::Command {
                revision: id as i64 + 1,
                body: Body::Put(PutResponse::default()),
            }),
        }
    }

    fn read(revision: i64, invoked_us: u64, completed_us: u64) -> Call {
        let request = RangeRequest { key: "a".into(), ..Default::default() };
        let response = log().model().range_at(&request, revision);
        Call {
            client: 1,
            member: 2,
            request: Request::Range(request),
            invoked_us,
            completed_us,
            command_id: None,
            outcome: Outcome::Answered(Answer::Range { revision, response }),
        }
    }

    #[test]
    fn a_true_history_passes() {
        check(&log(), &[write(1, 0, 10), read(2, 11, 15), write(2, 12, 20), read(2, 13, 19), read(3, 21, 30)]).unwrap();
    }

    #[test]
    fn a_stale_read_is_found() {
        assert!(check(&log(), &[write(1, 0, 10), write(2, 11, 20), read(2, 21, 30)]).is_err());
        // Overlapping the write it may see either.
        check(&log(), &[write(1, 0, 10), write(2, 11, 20), read(2, 19, 30)]).unwrap();
        // And a serializable one may be as old as it likes.
        let mut old = read(2, 21, 30);
        if let Request::Range(request) = &mut old.request {
            request.serializable = true;
        }
        check(&log(), &[write(1, 0, 10), write(2, 11, 20), old]).unwrap();
    }

    #[test]
    fn a_read_of_the_future_and_writes_out_of_order_are_found() {
        assert!(check(&log(), &[read(3, 0, 5), write(2, 6, 20)]).is_err());
        assert!(check(&log(), &[write(2, 0, 5), write(1, 6, 20)]).is_err());
    }

    #[test]
    fn two_reads_do_not_go_back_in_time() {
        assert!(check(&log(), &[read(3, 0, 5), read(2, 6, 9)]).is_err());
    }

    #[test]
    fn a_wrong_value_is_found() {
        let mut wrong = read(3, 0, 5);
        if let Outcome::Answered(Answer::Range { response, .. }) = &mut wrong.outcome {
            response.kvs[0].value = "9".into();
        }
        assert!(check(&log(), &[wrong]).is_err());
    }

    #[test]
    fn a_lost_answer_a_false_refusal_and_a_wrong_answer_are_found() {
        let mut lost = write(1, 0, 5);
        lost.command_id = Some(99);
        assert!(check(&log(), &[lost]).is_err());
        let mut refused = write(1, 0, 5);
        refused.outcome = Outcome::Refused;
        assert!(check(&log(), &[refused]).is_err());
        let mut wrong = write(1, 0, 5);
        wrong.outcome = Outcome::Rejected(Error::LeaseNotFound);
        assert!(check(&log(), &[wrong]).is_err());
        let mut unknown = write(1, 0, 5);
        unknown.outcome = Outcome::Unknown;
        check(&log(), &[unknown]).unwrap();
    }
}
