//! The end of a run: waiting until the cluster is one again, and handing everything to the judges.

use super::{Audit, Event, Phase, World};
use crate::check::watch::WatchTrack;
use crate::check::{durable, lease, linear, watch};
use crate::history::Violation;
use bytes::Bytes;
use quorate_proto::Message;
use quorate_proto::etcdserverpb::RangeRequest;
use quorate_proto::mvccpb;
use quorate_store::error::Error;
use quorate_store::range::KeyRange;
use quorate_store::watch::{Delivery, StreamLimits, WatchSpec};
use std::sync::Arc;

/// Deliveries that a final look at the history may take at the most.
const AUDIT_TURNS_MAX: usize = 100_000;

impl World {
    /// Whether the run may end; asked again and again once all is well.
    pub(super) fn settle(&mut self) {
        let quiet = self.live_check.all_served()
            && self.open_calls.is_empty()
            && self.converged()
            && self.watchers_idle()
            && (!self.options.integrity || self.is_whole())
            && self.log.model().leases().is_empty();
        if quiet || self.now_us >= self.settle_deadline_us() {
            self.phase = Phase::Over;
        } else {
            self.after(super::SETTLE_POLL_US, Event::Settle);
        }
    }

    /// How much later than its time a lease may end in a healthy cluster, us.
    fn lease_late_us_max(&self) -> u64 {
        self.scenario.recovery_us_max()
    }

    fn settle_deadline_us(&self) -> u64 {
        // By then everything has a right to have happened: service, and the end of the longest lease.
        let ttl_s_max = self.log.model().leases().values().map(|lease| lease.ttl_s).max();
        let leases_us = ttl_s_max.map_or(0, |ttl_s| {
            let ttl_us = ttl_s as u64 * 1_000_000;
            ttl_us + ttl_us / 1_000_000 * self.scenario.drift_ppm + self.lease_late_us_max()
        });
        self.healed_us + self.scenario.recovery_us_max().max(leases_us) + 100_000
    }

    /// Whether all members that can run do, with all of the log applied.
    fn converged(&self) -> bool {
        let last_index = self.log.last_index();
        let members = self.machines.iter().enumerate().filter(|(member, _)| self.belongs(*member));
        members.map(|(_, machine)| machine).filter(|machine| !machine.condemned).all(|machine| {
            machine.process.as_ref().is_some_and(|process| {
                process.reader.applied_index() == last_index && process.node.status().last_index <= last_index
            })
        })
    }

    /// Hands the run to the judges.
    pub(super) fn judge(&mut self) {
        if self.violation.is_some() {
            return;
        }
        let expired =
            |event: &&crate::check::log::LeaseEvent| matches!(event.step, crate::model::LeaseStep::Expired(_));
        self.counts.leases_expired = self.log.lease_events().iter().filter(expired).count() as u64;
        if let Err(violation) = self.judged() {
            self.found(violation);
        }
    }

    fn judged(&mut self) -> Result<(), Violation> {
        linear::check(&self.log, &self.calls)?;
        let owed = self.has_quorum();
        let bounds = lease::LeaseBounds {
            drift_ppm: self.scenario.drift_ppm,
            healthy_since_us: if owed { self.healed_us } else { self.now_us },
            late_us_max: self.lease_late_us_max(),
            ended_us: self.now_us,
        };
        lease::check(self.log.lease_events(), &self.calls, bounds)?;
        if owed {
            self.live_check.check(self.converged(), self.scenario.recovery_us_max())?;
        }
        for client in &self.watch_clients {
            for track in client.tracks() {
                watch::check(&self.log, &WatchTrack { complete: owed, ..track.clone() })?;
            }
        }
        let audits: Vec<Audit> = (0..self.machines.len())
            .filter(|member| self.belongs(*member))
            .filter_map(|member| self.audit(member))
            .collect();
        durable::check(&self.log, &self.calls, if owed { &audits } else { &[] })
    }

    /// Whether those voters that can run are a quorum: else the cluster owes nothing in time, since some were broken for
    /// good and others removed.
    fn has_quorum(&self) -> bool {
        let voters: Vec<u64> =
            self.log.members().list().into_iter().filter(|(_, is_learner)| !is_learner).map(|(id, _)| id).collect();
        let running = voters.iter().filter(|id| !self.machines[**id as usize - 1].condemned).count();
        2 * running > voters.len()
    }

    /// What a member holds, through the doors of its clients. `None`: it does not run, or says that it cannot read its
    /// files.
    fn audit(&self, member: usize) -> Option<Audit> {
        let process = self.machines[member].process.as_ref()?;
        let reader = &process.reader;
        let everything = RangeRequest {
            key: Bytes::from_static(&[0]),
            range_end: Bytes::from_static(&[0]),
            ..RangeRequest::default()
        };
        let range = reader.range(&everything).and_then(|reply| Ok((reply.revision, reply.items.decode()?)));
        let (revision, records) = match range {
            Ok(range) => range,
            Err(Error::Corrupt) if self.options.rot => return None,
            Err(error) => panic!("a range of everything cannot fail: {error}"),
        };
        let leases = reader.leases().into_iter().map(|(id, ttl_s)| (id, ttl_s, reader.lease_keys(id))).collect();
        let events = self.history_of(member);
        if events.is_none() && self.options.rot {
            return None;
        }
        let hash = match reader.hash_kv(0) {
            Ok(hash) => (hash.hash, hash.compact_revision),
            Err(Error::Corrupt) if self.options.rot => return None,
            Err(error) => panic!("a hash of everything cannot fail: {error}"),
        };
        Some(Audit {
            hash,
            member: member as u64 + 1,
            applied_index: reader.applied_index(),
            revision,
            records,
            leases,
            events,
        })
    }

    fn history_of(&self, member: usize) -> Option<Vec<mvccpb::Event>> {
        let process = self.machines[member].process.as_ref()?;
        let limits = StreamLimits { queue_bytes_max: 1 << 20, watchers_max: 1 };
        let stream = process.reader.watch_hub().open_stream(limits, Arc::new(|| {}));
        let spec = WatchSpec {
            watch_id: 0,
            range: KeyRange::all(),
            start_revision: self.log.model().compact_revision() + 1,
            no_put: false,
            no_delete: false,
            prev_kv: false,
            progress_notify: false,
        };
        stream.create(spec).ok()?;
        stream.request_progress();
        let mut history = Vec::new();
        for _ in 0..AUDIT_TURNS_MAX {
            for delivery in stream.next(1 << 20) {
                match delivery {
                    Delivery::Events { events, .. } => {
                        for event in events {
                            history.push(mvccpb::Event::decode(event).ok()?);
                        }
                    }
                    Delivery::Progress { .. } => return Some(history),
                    Delivery::WatcherProgress { .. } => {}
                    Delivery::Compacted { .. } | Delivery::Broken { .. } => return None,
                }
            }
        }
        None
    }
}
