//! Reading the store from any thread: never waits for consensus, hardly ever for the writer.
//!
//! A long range gives the lock back every few thousand keys. It stays consistent, because the index keeps the versions
//! of its revision; should compaction overtake it, it begins again at the newest revision, or, when a revision was asked
//! for by number, says that it is compacted.

use crate::auth::{Act, AuthError, AuthView};
use crate::downgrade;
use crate::encode::{self, KeyValueParts, TAG_RANGE_KVS, put_key_value, put_varint, varint_length};
use crate::error::Error;
use crate::hash;
use crate::key_index::Version;
use crate::lease::Leases;
use crate::range::{KeyRange, RangeEnd};
use crate::revlog::{Location, RECORD_OVERHEAD, SegmentSet};
use crate::scrub::Scrub;
use crate::state::{Core, State, decode_key_value, visible};
use crate::tie_order;
use crate::txn;
use crate::v2::{Action, Fault, Image, StatsCounts, Wake, WatchSpec, Watcher};
use crate::watch::WatchHub;
use bytes::Bytes;
use quorate_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_proto::etcdserverpb::{
    AlarmMember, Member, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use quorate_proto::mvccpb::KeyValue;
use quorate_proto::quoratepb::Caller;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// Keys looked at before a long range gives the lock back: about a quarter of a millisecond.
const KEYS_PER_TURN: usize = 4_096;
/// How often a range without a revision begins again when compaction overtakes it.
const RESTARTS_MAX: usize = 8;

/// Shared by everybody who reads. Cheap to clone.
#[derive(Clone)]
pub struct StoreReader {
    core: Arc<Core>,
    hub: WatchHub,
}

/// A range's answer, its key-values still on the disk.
pub struct RangeReply {
    /// The store's revision when it was read (for the header).
    pub revision: i64,
    /// Keys in the range, whatever the limit.
    pub count: i64,
    /// Whether the limit cut it.
    pub more: bool,
    /// The records of the answer.
    pub items: RangeItems,
}

/// The key-values of an answer: positions, read when they are sent.
pub struct RangeItems {
    core: Option<Arc<Core>>,
    parts: Vec<Part>,
    count: usize,
    /// Items that were not taken yet.
    left: usize,
    encoded_bytes: u64,
    /// The next item: part and place in it.
    next: (usize, usize),
}

enum Part {
    /// Records to read from these segments; open files, so compaction does not disturb.
    Stored(Arc<SegmentSet>, Vec<Location>),
    /// Encoded key-values.
    Ready(Vec<Bytes>),
}

impl RangeItems {
    fn empty() -> Self {
        Self { core: None, parts: Vec::new(), count: 0, left: 0, encoded_bytes: 0, next: (0, 0) }
    }

    fn push_stored(&mut self, view: &Arc<SegmentSet>, version: &Version) {
        let location = version.location;
        self.note(location.length as usize - RECORD_OVERHEAD);
        match self.parts.last_mut() {
            Some(Part::Stored(set, locations)) if Arc::ptr_eq(set, view) => locations.push(location),
            _ => self.parts.push(Part::Stored(view.clone(), vec![location])),
        }
    }

    fn push_ready(&mut self, key_value: Bytes) {
        self.note(key_value.len());
        match self.parts.last_mut() {
            Some(Part::Ready(ready)) => ready.push(key_value),
            _ => self.parts.push(Part::Ready(vec![key_value])),
        }
    }

    fn note(&mut self, length: usize) {
        self.count += 1;
        self.left += 1;
        self.encoded_bytes += (1 + varint_length(length as u64) + length) as u64;
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the `kvs` fields of a RangeResponse when encoded (tags and lengths included): what all `next_encoded`
    /// calls append together.
    pub fn encoded_bytes(&self) -> u64 {
        self.encoded_bytes
    }

    fn next_item(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            let (part, place) = self.next;
            let found = match self.parts.get(part)? {
                Part::Stored(set, locations) => locations.get(place).map(|&location| match set.read(location) {
                    Ok(record) => Ok(record.key_value),
                    Err(error) => Err(self.core.as_ref().map_or(Error::Corrupt, |core| core.broken(&error))),
                }),
                Part::Ready(ready) => ready.get(place).map(|bytes| Ok(bytes.clone())),
            };
            if found.is_some() {
                self.next.1 += 1;
                self.left -= 1;
                return found;
            }
            self.next = (part + 1, 0);
        }
    }

    /// Appends further `kvs` fields (field 2 of RangeResponse, encoded) to `out` until it holds `bytes_max` or the items
    /// end; answers whether there are more.
    pub fn next_encoded(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<bool, Error> {
        while let Some(item) = self.next_item() {
            let item = item?;
            out.push(TAG_RANGE_KVS);
            put_varint(out, item.len() as u64);
            out.extend_from_slice(&item);
            if out.len() >= bytes_max {
                break;
            }
        }
        Ok(self.left > 0)
    }

    /// All of them decoded (for transactions, JSON, small answers).
    pub fn decode(mut self) -> Result<Vec<KeyValue>, Error> {
        let mut decoded = Vec::with_capacity(self.count);
        while let Some(item) = self.next_item() {
            decoded.push(decode_key_value(item?)?);
        }
        Ok(decoded)
    }
}

impl RangeReply {
    /// The answer as a message whose header holds the revision only, as sub-answers of transactions have it.
    pub(crate) fn into_response(self) -> Result<RangeResponse, Error> {
        Ok(RangeResponse {
            header: Some(ResponseHeader { revision: self.revision, ..ResponseHeader::default() }),
            kvs: self.items.decode()?,
            more: self.more,
            count: self.count,
        })
    }
}

/// How a range is to be answered.
struct Plan<'a> {
    request: &'a RangeRequest,
    range: KeyRange,
    /// Read as of here.
    revision: i64,
    /// Keys to gather at the most; 0: no bound.
    gather_max: usize,
    /// Sorted or filtered: everything gathered is needed before anything can be left out.
    whole: bool,
}

/// What a walk gathered.
struct Gathered {
    items: RangeItems,
    hits: Vec<(Bytes, Version)>,
    count: usize,
    more: bool,
}

impl<'a> Plan<'a> {
    fn new(request: &'a RangeRequest, revision: i64) -> Self {
        let by_key = request.sort_target == SortTarget::Key as i32;
        let unordered = request.sort_order == SortOrder::None as i32;
        let key_order = by_key && (unordered || request.sort_order == SortOrder::Ascend as i32);
        let filtered = request.min_mod_revision != 0
            || request.max_mod_revision != 0
            || request.min_create_revision != 0
            || request.max_create_revision != 0;
        let limit = limit_of(request);
        let gather_max = if filtered || !(key_order || unordered) {
            0
        } else if key_order || limit == 0 {
            limit
        } else {
            // As in etcd a sort without an order comes behind the limit: of one key more than it, the first are answered.
            limit.saturating_add(1)
        };
        Self {
            request,
            range: KeyRange::new(request.key.clone(), request.range_end.clone()),
            revision,
            gather_max,
            whole: !key_order || filtered,
        }
    }

    fn limit(&self) -> usize {
        limit_of(self.request)
    }

    /// Walks from `range.start` on, at most `keys_max` keys; answers where to go on.
    fn gather(&self, state: &State, range: &KeyRange, keys_max: usize, gathered: &mut Gathered) -> Option<Bytes> {
        let mut looked = 0;
        let mut resume = None;
        state.index.walk(range, &mut |key, versions| {
            if looked == keys_max {
                resume = Some(Bytes::copy_from_slice(key));
                return ControlFlow::Break(());
            }
            looked += 1;
            let Some(version) = visible(versions, self.revision) else {
                return ControlFlow::Continue(());
            };
            if self.gather_max > 0 && gathered.count == self.gather_max {
                gathered.more = true;
                return ControlFlow::Break(());
            }
            gathered.count += 1;
            if self.whole {
                gathered.hits.push((Bytes::copy_from_slice(key), *version));
            } else if self.request.keys_only {
                gathered.items.push_ready(keys_only(key, version));
            } else {
                gathered.items.push_stored(&state.view, version);
            }
            ControlFlow::Continue(())
        });
        resume
    }

    /// Filters, sorts and cuts what is needed whole, as etcd does: filters first, the count stays what it was.
    fn finish_whole(&self, view: &Arc<SegmentSet>, gathered: &mut Gathered) -> Result<(), Error> {
        let request = self.request;
        let mut hits = std::mem::take(&mut gathered.hits);
        hits.retain(|(_, version)| {
            (request.max_mod_revision == 0 || version.main <= request.max_mod_revision)
                && (request.min_mod_revision == 0 || version.main >= request.min_mod_revision)
                && (request.max_create_revision == 0 || version.create_revision <= request.max_create_revision)
                && (request.min_create_revision == 0 || version.create_revision >= request.min_create_revision)
        });
        let descending = request.sort_order == SortOrder::Descend as i32;
        let core = gathered.items.core.clone();
        match SortTarget::try_from(request.sort_target) {
            Ok(SortTarget::Key) if descending => hits.reverse(),
            Ok(SortTarget::Version) => {
                tie_order::sort_by(&mut hits, descending, &|left, right| left.1.version.cmp(&right.1.version));
            }
            Ok(SortTarget::Create) => tie_order::sort_by(&mut hits, descending, &|left, right| {
                left.1.create_revision.cmp(&right.1.create_revision)
            }),
            Ok(SortTarget::Mod) => {
                tie_order::sort_by(&mut hits, descending, &|left, right| left.1.main.cmp(&right.1.main));
            }
            Ok(SortTarget::Value) => {
                let mut valued = Vec::with_capacity(hits.len());
                for (_, version) in hits {
                    let record = view.read(version.location).map_err(|error| broken(core.as_ref(), &error))?;
                    valued.push((decode_key_value(record.key_value.clone())?.value, record.key_value));
                }
                tie_order::sort_by(&mut valued, descending, &|left, right| left.0.cmp(&right.0));
                gathered.more = self.limit() > 0 && valued.len() > self.limit();
                for (_, key_value) in valued.into_iter().take(self.take()) {
                    gathered.items.push_ready(if request.keys_only { without_value(key_value)? } else { key_value });
                }
                return Ok(());
            }
            _ => {}
        }
        gathered.more = self.limit() > 0 && hits.len() > self.limit();
        for (key, version) in hits.into_iter().take(self.take()) {
            if request.keys_only {
                gathered.items.push_ready(keys_only(&key, &version));
            } else {
                gathered.items.push_stored(view, &version);
            }
        }
        Ok(())
    }

    fn take(&self) -> usize {
        if self.limit() > 0 { self.limit() } else { usize::MAX }
    }
}

/// The limit of a request; 0: none.
fn limit_of(request: &RangeRequest) -> usize {
    usize::try_from(request.limit).unwrap_or(0)
}

fn broken(core: Option<&Arc<Core>>, error: &crate::error::DiskError) -> Error {
    core.map_or(Error::Corrupt, |core| core.broken(error))
}

/// A key-value as a keys-only answer shows it: from the index alone, so without value and without lease.
fn keys_only(key: &[u8], version: &Version) -> Bytes {
    let mut out = Vec::with_capacity(key.len() + 24);
    put_key_value(
        &mut out,
        KeyValueParts {
            key,
            create_revision: version.create_revision,
            mod_revision: version.main,
            version: version.version,
            value: &[],
            lease: 0,
        },
    );
    out.into()
}

/// A stored key-value without its value (keys-only answers that are sorted by value keep the lease, as in etcd).
fn without_value(key_value: Bytes) -> Result<Bytes, Error> {
    let decoded = decode_key_value(key_value)?;
    let mut out = Vec::with_capacity(decoded.key.len() + 32);
    encode::put_key_value(
        &mut out,
        KeyValueParts {
            key: &decoded.key,
            create_revision: decoded.create_revision,
            mod_revision: decoded.mod_revision,
            version: decoded.version,
            value: &[],
            lease: decoded.lease,
        },
    );
    Ok(out.into())
}

/// Answers a range under a lock that the caller holds; `current` is the newest revision that it may see.
pub(crate) fn range_in(
    core: &Arc<Core>,
    state: &State,
    request: &RangeRequest,
    current: i64,
) -> Result<RangeReply, Error> {
    let revision = state.read_revision(request.revision, current)?;
    let plan = Plan::new(request, revision);
    let mut reply = RangeReply { revision: current, count: 0, more: false, items: RangeItems::empty() };
    if request.count_only {
        reply.count = state.count(&plan.range, revision);
        return Ok(reply);
    }
    let mut gathered = Gathered { items: RangeItems::empty(), hits: Vec::new(), count: 0, more: false };
    gathered.items.core = Some(core.clone());
    plan.gather(state, &plan.range, usize::MAX, &mut gathered);
    reply.count = if gathered.more { state.count(&plan.range, revision) } else { gathered.count as i64 };
    if plan.whole {
        plan.finish_whole(&state.view, &mut gathered)?;
    }
    reply.more = gathered.more;
    reply.items = gathered.items;
    Ok(reply)
}

/// HashKV's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C over the history, as etcd computes it.
    pub hash: u32,
    /// The compact revision; -1: never compacted.
    pub compact_revision: i64,
    /// The revision hashed.
    pub hash_revision: i64,
    /// The store's revision.
    pub revision: i64,
}

/// Figures for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// The newest revision.
    pub revision: i64,
    /// -1: never compacted.
    pub compact_revision: i64,
    /// The last applied index.
    pub applied_index: u64,
    /// Its term.
    pub applied_term: u64,
    /// Keys that exist.
    pub keys: u64,
    /// Bytes of files.
    pub disk_bytes: u64,
    /// Bytes that are alive in them.
    pub live_bytes: u64,
    /// Leases.
    pub leases: u64,
    /// Puts since start.
    pub puts: u64,
    /// Bytes of them, as they are kept.
    pub put_bytes: u64,
    /// Deletes since start.
    pub deletes: u64,
    /// Transactions since start.
    pub txns: u64,
    /// Ranges since start, those in transactions too.
    pub ranges: u64,
    /// Versions that compactions forgot since start.
    pub versions_compacted: u64,
    /// Leases granted since start.
    pub leases_granted: u64,
    /// Renewals of leases since start.
    pub leases_renewed: u64,
    /// Leases that ended since start.
    pub leases_revoked: u64,
    /// Those of them whose time ran out.
    pub leases_expired: u64,
    /// Digest of the applied state: equal on all members at one applied index.
    pub digest: u64,
}

impl StoreReader {
    pub(crate) fn new(core: Arc<Core>, hub: WatchHub) -> Self {
        Self { core, hub }
    }

    /// Runs a validated range request.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeReply, Error> {
        self.core.counters.ranges.fetch_add(1, Relaxed);
        let single = request.range_end.is_empty();
        let short = request.count_only && request.revision <= 0;
        let limited = request.limit > 0 && (request.limit as usize) < KEYS_PER_TURN && request.revision <= 0;
        if single || short || (limited && !Plan::new(request, 0).whole) {
            let state = self.core.state.read();
            let current = state.revision;
            return range_in(&self.core, &state, request, current);
        }
        for _ in 0..RESTARTS_MAX {
            if let Some(reply) = self.range_in_turns(request)? {
                return Ok(reply);
            }
        }
        Err(Error::Compacted)
    }

    /// A range in turns; `None` when compaction overtook a range at the newest revision.
    fn range_in_turns(&self, request: &RangeRequest) -> Result<Option<RangeReply>, Error> {
        let (current, revision) = {
            let state = self.core.state.read();
            (state.revision, state.read_revision(request.revision, state.revision)?)
        };
        let plan = Plan::new(request, revision);
        let mut gathered = Gathered { items: RangeItems::empty(), hits: Vec::new(), count: 0, more: false };
        gathered.items.core = Some(self.core.clone());
        let mut range = plan.range.clone();
        // Counting what lies behind the limit, or everything for a count, is the same walk with nothing kept.
        let mut counting = request.count_only.then_some(0i64);
        loop {
            let state = self.core.state.read();
            if revision < state.compact_revision {
                return if request.revision > 0 { Err(Error::Compacted) } else { Ok(None) };
            }
            let resume = match &mut counting {
                Some(count) => count_turn(&state, &range, revision, count),
                None => plan.gather(&state, &range, KEYS_PER_TURN, &mut gathered),
            };
            if gathered.more && counting.is_none() {
                // etcd's count is of the whole range: begin it anew, from the start.
                if revision == state.revision {
                    counting = Some(state.count(&plan.range, revision));
                    break;
                }
                counting = Some(0);
                range = plan.range.clone();
                continue;
            }
            match resume {
                Some(key) => range.start = key,
                None => break,
            }
        }
        let mut reply = RangeReply { revision: current, count: 0, more: false, items: RangeItems::empty() };
        if !request.count_only {
            if plan.whole {
                // Sorted and filtered answers are read under one view; the positions gathered in turns stay right in it
                // unless segments were rewritten in between, so they are looked up again.
                let state = self.core.state.read();
                if revision < state.compact_revision {
                    return if request.revision > 0 { Err(Error::Compacted) } else { Ok(None) };
                }
                for (key, version) in &mut gathered.hits {
                    if let Some(found) = visible(state.index.get(key), revision) {
                        *version = *found;
                    }
                }
                let view = state.view.clone();
                drop(state);
                plan.finish_whole(&view, &mut gathered)?;
            }
            reply.more = gathered.more;
            reply.items = gathered.items;
        }
        reply.count = counting.unwrap_or(gathered.count as i64);
        Ok(Some(reply))
    }

    /// Evaluates a transaction without writes as of what is applied.
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let state = self.core.state.read();
        txn::read_only(&self.core, &state, request)
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.core.revision.load(Acquire)
    }

    /// The last applied index.
    pub fn applied_index(&self) -> u64 {
        self.core.applied_index.load(Acquire)
    }

    /// Figures.
    pub fn stats(&self) -> StoreStats {
        let state = self.core.state.read();
        let counters = &self.core.counters;
        StoreStats {
            revision: state.revision,
            compact_revision: state.compact_revision,
            applied_index: state.applied_index,
            applied_term: state.applied_term,
            keys: state.index.live(),
            disk_bytes: counters.disk_bytes.load(Relaxed),
            live_bytes: counters.live_bytes.load(Relaxed),
            leases: state.leases.len() as u64,
            puts: counters.puts.load(Relaxed),
            put_bytes: counters.put_bytes.load(Relaxed),
            versions_compacted: counters.versions_compacted.load(Relaxed),
            deletes: counters.deletes.load(Relaxed),
            txns: counters.txns.load(Relaxed),
            ranges: counters.ranges.load(Relaxed),
            leases_granted: counters.leases_granted.load(Relaxed),
            leases_renewed: counters.leases_renewed.load(Relaxed),
            leases_revoked: counters.leases_revoked.load(Relaxed),
            leases_expired: counters.leases_expired.load(Relaxed),
            digest: state.digest,
        }
    }

    /// HashKV at a revision (0: the newest). Reads the whole history: not on a network thread.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        hash::hash_kv(&self.core, revision)
    }

    /// A lease's granted TTL in seconds; `None`: no such lease.
    pub fn lease_ttl(&self, id: i64) -> Option<i64> {
        self.core.state.read().leases.get(id).map(|lease| lease.ttl_s)
    }

    /// All leases: id and granted TTL, ascending ids.
    pub fn leases(&self) -> Vec<(i64, i64)> {
        self.core.state.read().leases.iter().map(|(id, lease)| (id, lease.ttl_s)).collect()
    }

    /// The keys attached to a lease, sorted.
    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.core.state.read().leases.get(id).map_or_else(Vec::new, |lease| lease.keys.iter().cloned().collect())
    }

    /// The members, ascending ids.
    pub fn members(&self) -> Vec<Member> {
        self.core.state.read().members.to_vec()
    }

    /// Members that were removed and may not come back under their old id.
    pub fn is_removed(&self, id: u64) -> bool {
        self.core.state.read().members.is_removed(id)
    }

    /// Raised alarms.
    pub fn alarms(&self) -> Vec<AlarmMember> {
        self.core.state.read().alarm_members()
    }

    /// The cluster version, for example "3.7.0"; empty before the first leader set it.
    pub fn cluster_version(&self) -> String {
        self.core.state.read().cluster_version.clone()
    }

    /// The version that the cluster goes down to, for example "3.6.0"; empty: it does not.
    pub fn downgrade_target(&self) -> String {
        self.core.state.read().downgrade_target.clone()
    }

    /// Whether a downgrade to this version could begin.
    pub fn check_downgrade(&self, target: &str) -> Result<(), Error> {
        let state = self.core.state.read();
        downgrade::check(&state.cluster_version, &state.downgrade_target, target)
    }

    /// Reads a node of the v2 tree as of what is applied: the tree's index, and the node or why not. `now_ns` is what
    /// times to live are counted from.
    pub fn v2_get(&self, path: &[u8], recursive: bool, now_ns: i64) -> (u64, Result<Image, Fault>) {
        let (index, found) = {
            let state = self.core.state.read();
            (state.v2.index(), state.v2.get(path, recursive, now_ns))
        };
        self.core.v2_stats.count(Action::Get, found.is_ok());
        (index, found)
    }

    /// Begins to watch the v2 tree. `wake` is called, from any thread, when there may be something to take.
    pub fn v2_watch(&self, spec: &WatchSpec, wake: Wake) -> Result<Watcher, Fault> {
        self.core.v2_hub.watch(&self.core.state.read().v2, spec, wake)
    }

    /// The v2 tree's index.
    pub fn v2_index(&self) -> u64 {
        self.core.state.read().v2.index()
    }

    /// When the next node of the v2 tree dies, ns since 1970.
    pub fn v2_next_deadline_ns(&self) -> Option<i64> {
        self.core.state.read().v2.next_deadline_ns()
    }

    /// What was asked of the v2 tree since start.
    pub fn v2_stats(&self) -> StatsCounts {
        self.core.v2_stats.counts(self.core.v2_hub.watchers())
    }

    /// Where watchers register.
    pub fn watch_hub(&self) -> &WatchHub {
        &self.hub
    }

    /// Whether any key of the range exists at the head revision.
    pub fn any(&self, range: &KeyRange) -> bool {
        self.core.state.read().index.count_live(range) > 0
    }

    /// The compact revision; -1: never compacted.
    pub fn compact_revision(&self) -> i64 {
        self.core.state.read().compact_revision
    }

    /// The compaction up to which unreachable versions are forgotten (the `physical` part of a compaction).
    pub fn compacted_revision(&self) -> i64 {
        self.core.compacted_revision.load(Acquire)
    }

    /// Users, roles and permissions as of what is applied.
    pub fn auth(&self) -> Arc<AuthView> {
        self.core.auth.read().clone()
    }

    /// Whether auth is on: one atomic load.
    pub fn auth_enabled(&self) -> bool {
        self.core.auth_mark.load(Acquire) & 1 == 1
    }

    /// The auth revision: one atomic load.
    pub fn auth_revision(&self) -> u64 {
        self.core.auth_mark.load(Acquire) >> 1
    }

    /// Whether a caller may do something, as of what is applied. One atomic load while auth is off.
    pub fn authorize(&self, caller: Option<&Caller>, act: Act<'_>) -> Result<(), AuthError> {
        if !self.auth_enabled() {
            return Ok(());
        }
        if act.names_lease() {
            let state = self.core.state.read();
            return state.auth.authorize(caller, act, &state.leases);
        }
        self.auth().authorize(caller, act, &Leases::default())
    }

    /// Reads on a caller's behalf: its right is judged before, and once more when users or roles changed meanwhile, so
    /// that nothing is shown that was written after it was taken away.
    pub fn read_as<T>(
        &self,
        caller: Option<&Caller>,
        act: Act<'_>,
        read: impl FnOnce(&Self) -> T,
    ) -> Result<T, AuthError> {
        let mark = self.core.auth_mark.load(Acquire);
        self.authorize(caller, act)?;
        let result = read(self);
        if self.core.auth_mark.load(Acquire) != mark {
            self.authorize(caller, act)?;
        }
        Ok(result)
    }

    /// A pass over all records, to find broken ones.
    pub fn scrub(&self) -> Scrub {
        Scrub::new(self.core.clone())
    }

    /// Whether nothing may be told to clients: the state is known to be wrong. One atomic load.
    pub fn is_quarantined(&self) -> bool {
        self.core.quarantined.load(Acquire)
    }

    /// The alarms that the cluster raised by itself, in order.
    pub fn own_alarms(&self) -> Vec<AlarmMember> {
        self.core.state.read().own_alarm_members()
    }

    /// Bytes that count for the quota: keys, values and the history that is kept. One atomic load.
    pub fn live_bytes(&self) -> u64 {
        self.core.counters.live_bytes.load(Relaxed)
    }

    /// Why the member may not be trusted any more, once a stored record was found broken.
    pub fn corrupt_reason(&self) -> Option<String> {
        if !self.core.corrupt.load(Acquire) {
            return None;
        }
        self.core.corrupt_reason.lock().clone()
    }
}

/// One turn of counting at an old revision; answers where to go on.
fn count_turn(state: &State, range: &KeyRange, revision: i64, count: &mut i64) -> Option<Bytes> {
    if matches!(range.end, RangeEnd::Single) {
        *count += i64::from(visible(state.index.get(&range.start), revision).is_some());
        return None;
    }
    let mut looked = 0;
    let mut resume = None;
    state.index.walk(range, &mut |key, versions| {
        if looked == KEYS_PER_TURN {
            resume = Some(Bytes::copy_from_slice(key));
            return ControlFlow::Break(());
        }
        looked += 1;
        *count += i64::from(visible(versions, revision).is_some());
        ControlFlow::Continue(())
    });
    resume
}
