//! Who may do what: the one function that every way to the data asks.
//!
//! Invariant: an act is let through only when everything that it reads and writes is permitted, whatever it is nested
//! in; what is not recognised is denied.

use super::act::Act;
use super::calls::{Rule, rule};
use super::error::AuthError;
use super::spans::Spans;
use super::user::User;
use super::view::AuthView;
use crate::lease::Leases;
use bytes::Bytes;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, TxnRequest};
use quorate_proto::quoratepb::Caller;
use std::collections::BTreeSet;

/// The caller of what the cluster does of its own accord. Never made of anything that a client sent.
pub fn cluster_caller() -> Caller {
    Caller { cluster: true, ..Caller::default() }
}

/// The end of the range of all keys with a prefix, as the wire names it.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// A caller who proved a name, but it is not known yet whether it counts. A name that is empty is nobody's, as any other that
/// no user has.
fn named(caller: Option<&Caller>) -> Result<&Caller, AuthError> {
    caller.filter(|caller| caller.auth_revision != 0).ok_or(AuthError::UserEmpty)
}

impl AuthView {
    /// Whether the caller may do it, as of this view.
    ///
    /// `None` is somebody without credentials, and may do next to nothing while auth is on. A caller stands for its user
    /// as of an auth revision: it is turned away as old only when that very user was made anew, or got another password
    /// or other grants since; changes of other users do not matter to it.
    pub fn authorize(&self, caller: Option<&Caller>, act: Act<'_>, leases: &Leases) -> Result<(), AuthError> {
        if !self.enabled || caller.is_some_and(|caller| caller.cluster) {
            return Ok(());
        }
        let permitted = match act {
            Act::Members => true,
            Act::Unknown => false,
            Act::Call(method) => match rule(method) {
                Some(Rule::Open) => true,
                Some(Rule::User) => self.user_of(caller).map(|_| true)?,
                Some(Rule::Root) => self.administrator(caller)?.is_root(),
                None => false,
            },
            Act::Alarm(action) if action == AlarmAction::Get as i32 => self.user_of(caller).map(|_| true)?,
            Act::Alarm(_) | Act::Compact | Act::AuthChange => self.administrator(caller)?.is_root(),
            Act::UserGet(name) => {
                let user = self.administrator(caller)?;
                user.is_root() || caller.is_some_and(|caller| caller.user == name)
            }
            Act::RoleGet(role) => {
                let user = self.administrator(caller)?;
                user.is_root() || user.holds(role)
            }
            Act::LeaseGrant | Act::LeaseTimeToLive { keys: false, .. } => self.user_of(caller).map(|_| true)?,
            Act::LeaseRevoke(id) | Act::LeaseRenew(id) => {
                self.user_of(caller)?.is_root() || self.attached(caller, keys_of(leases, id), |user| &user.write)?
            }
            Act::LeaseTimeToLive { id, keys: true } => {
                self.user_of(caller)?.is_root() || self.attached(caller, keys_of(leases, id), |user| &user.read)?
            }
            Act::LeaseLeases => {
                let keys = leases.iter().map(|(_, lease)| &lease.keys);
                self.user_of(caller)?.is_root() || self.attached(caller, keys, |user| &user.read)?
            }
            Act::Range(_)
            | Act::Put(_)
            | Act::DeleteRange(_)
            | Act::Txn(_)
            | Act::Watch { .. }
            | Act::Contend { .. }
            | Act::Unlock(_)
            | Act::Proclaim { .. }
            | Act::Resign(_)
            | Act::Observe(_) => {
                let user = self.holder(caller)?;
                user.is_root() || user.may(act, leases)
            }
        };
        if permitted { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// Who the caller is; errors as for whoever asks for more than keys.
    fn administrator(&self, caller: Option<&Caller>) -> Result<&User, AuthError> {
        let caller = named(caller)?;
        let user = self.user(&caller.user).ok_or(AuthError::UserNotFound)?;
        same_identity(user, caller)
    }

    /// Who the caller is. A user that is gone took its tokens with it.
    fn user_of(&self, caller: Option<&Caller>) -> Result<&User, AuthError> {
        let caller = named(caller)?;
        match self.user(&caller.user) {
            Some(user) => same_identity(user, caller),
            None if caller.auth_revision < self.revision() => Err(AuthError::AuthOldRevision),
            None => Err(AuthError::PermissionDenied),
        }
    }

    /// Who the caller is, if it knows its grants as they are.
    fn holder(&self, caller: Option<&Caller>) -> Result<&User, AuthError> {
        let user = self.user_of(caller)?;
        if named(caller)?.auth_revision < user.grants_revision() {
            return Err(AuthError::AuthOldRevision);
        }
        Ok(user)
    }

    /// Whether all keys that hang on leases are permitted. Without any, it is nobody's.
    fn attached<'a>(
        &self,
        caller: Option<&Caller>,
        keys: impl Iterator<Item = &'a BTreeSet<Bytes>>,
        spans: fn(&User) -> &Spans,
    ) -> Result<bool, AuthError> {
        for keys in keys.filter(|keys| !keys.is_empty()) {
            if !spans(self.holder(caller)?).covers_all(keys) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn same_identity<'a>(user: &'a User, caller: &Caller) -> Result<&'a User, AuthError> {
    if caller.auth_revision < user.identity_revision() { Err(AuthError::AuthOldRevision) } else { Ok(user) }
}

/// The keys of a lease, if it exists.
fn keys_of(leases: &Leases, id: i64) -> impl Iterator<Item = &BTreeSet<Bytes>> {
    leases.get(id).map(|lease| &lease.keys).into_iter()
}

impl User {
    /// Whether its roles permit what touches keys; the role root is not asked here.
    fn may(&self, act: Act<'_>, leases: &Leases) -> bool {
        match act {
            Act::Range(request) => self.reads(&request.key, &request.range_end),
            Act::Put(request) => self.puts(request, leases),
            Act::DeleteRange(request) => self.deletes(request),
            Act::Txn(request) => self.transacts(request, leases),
            Act::Watch { key, range_end } => self.reads(if key.is_empty() { &[0] } else { key }, range_end),
            Act::Contend { prefix, key, lease } => {
                self.reads(prefix, &prefix_end(prefix))
                    && self.reads(key, &[])
                    && self.writes(key, &[])
                    && self.attaches(lease, leases)
            }
            Act::Unlock(key) => self.writes(key, &[]),
            Act::Proclaim { key, lease } => {
                self.reads(key, &[]) && self.writes(key, &[]) && self.attaches(lease, leases)
            }
            Act::Resign(key) => self.reads(key, &[]) && self.writes(key, &[]),
            Act::Observe(prefix) => self.reads(prefix, &prefix_end(prefix)),
            _ => false,
        }
    }

    fn reads(&self, key: &[u8], range_end: &[u8]) -> bool {
        self.read.covers(key, range_end)
    }

    fn writes(&self, key: &[u8], range_end: &[u8]) -> bool {
        self.write.covers(key, range_end)
    }

    /// A lease takes all its keys with it, so whoever attaches a key to it must be allowed to write them all.
    fn attaches(&self, lease: i64, leases: &Leases) -> bool {
        leases.get(lease).is_none_or(|lease| self.write.covers_all(&lease.keys))
    }

    fn puts(&self, request: &PutRequest, leases: &Leases) -> bool {
        self.writes(&request.key, &[])
            && self.attaches(request.lease, leases)
            && (!request.prev_kv || self.reads(&request.key, &[]))
    }

    fn deletes(&self, request: &DeleteRangeRequest) -> bool {
        self.writes(&request.key, &request.range_end)
            && (!request.prev_kv || self.reads(&request.key, &request.range_end))
    }

    /// Every comparison is a read, and both branches count, whichever is taken. Nesting is walked by a list, so that no
    /// depth is too deep for the stack.
    fn transacts(&self, request: &TxnRequest, leases: &Leases) -> bool {
        let mut left = vec![request];
        while let Some(request) = left.pop() {
            if !request.compare.iter().all(|compare| self.reads(&compare.key, &compare.range_end)) {
                return false;
            }
            for operation in request.success.iter().chain(&request.failure) {
                let permitted = match &operation.request {
                    Some(Request::RequestRange(range)) => self.reads(&range.key, &range.range_end),
                    Some(Request::RequestPut(put)) => self.puts(put, leases),
                    Some(Request::RequestDeleteRange(delete)) => self.deletes(delete),
                    Some(Request::RequestTxn(nested)) => {
                        left.push(nested);
                        true
                    }
                    None => false,
                };
                if !permitted {
                    return false;
                }
            }
        }
        true
    }
}
