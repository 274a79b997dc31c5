//! Failures of the layers below as gRPC statuses, with the codes and texts that etcd's clients compare.

use crate::backend::CallError;
use crate::grpc::status::{Code, Status};
use quorate_node::api::Refusal;
use quorate_store::auth::AuthError;
use quorate_store::error::Error;

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Store(error) => error.into(),
            CallError::Refused(Refusal::NoLeader) => NO_LEADER,
            CallError::Refused(Refusal::TooManyRequests) => TOO_MANY_REQUESTS,
            CallError::Refused(Refusal::LeaderChanged) => Self::new(Code::Unavailable, "etcdserver: leader changed"),
            CallError::Refused(Refusal::Stopped) => STOPPED,
            CallError::Refused(Refusal::LearnerNotReady) => LEARNER_NOT_READY,
            CallError::Refused(Refusal::MemberNotFound) => Error::MemberNotFound.into(),
            CallError::TimedOut => Self::new(Code::Unavailable, "etcdserver: request timed out"),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, text) = match error {
            Error::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
            Error::Compacted => (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            Error::FutureRevision => (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
            Error::NoSpace => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            Error::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
            Error::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
            Error::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
            Error::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
            Error::Auth(error) => return error.into(),
            Error::MemberExists => (Code::FailedPrecondition, "etcdserver: member ID already exist"),
            Error::PeerUrlExists => (Code::FailedPrecondition, "etcdserver: Peer URLs already exists"),
            Error::MemberNotFound => (Code::NotFound, "etcdserver: member not found"),
            Error::MemberNotLearner => (Code::FailedPrecondition, "etcdserver: can only promote a learner member"),
            Error::TooManyLearners => (Code::FailedPrecondition, "etcdserver: too many learner members in cluster"),
            // etcd hands out its client's error here, which has no code on the wire.
            Error::NotEnoughStartedMembers => {
                (Code::Unknown, "etcdserver: re-configuration failed due to not enough started members")
            }
            Error::ClusterVersionUnavailable => {
                (Code::FailedPrecondition, "etcdserver: cluster version not found during downgrade")
            }
            Error::InvalidDowngradeTarget => (Code::InvalidArgument, "etcdserver: invalid downgrade target version"),
            Error::DowngradeInProcess => {
                (Code::FailedPrecondition, "etcdserver: cluster has a downgrade job in progress")
            }
            Error::NoInflightDowngrade => (Code::FailedPrecondition, "etcdserver: no inflight downgrade job"),
        };
        Self::new(code, text)
    }
}

impl From<AuthError> for Status {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::UserEmpty
            | AuthError::RoleEmpty
            | AuthError::AuthFailed
            | AuthError::PermissionNotGiven
            | AuthError::InvalidAuthManagement
            | AuthError::AuthOldRevision => Code::InvalidArgument,
            AuthError::PermissionDenied => Code::PermissionDenied,
            AuthError::InvalidAuthToken => Code::Unauthenticated,
            AuthError::NoPasswordUser => Code::Unknown,
            AuthError::RootUserNotExist
            | AuthError::RootRoleNotExist
            | AuthError::UserAlreadyExist
            | AuthError::UserNotFound
            | AuthError::RoleAlreadyExist
            | AuthError::RoleNotFound
            | AuthError::RoleNotGranted
            | AuthError::PermissionNotGranted
            | AuthError::AuthNotEnabled => Code::FailedPrecondition,
        };
        Self::new(code, error.to_string())
    }
}

const fn fixed(code: Code, text: &'static str) -> Status {
    Status { code, message: std::borrow::Cow::Borrowed(text) }
}

pub(crate) const NO_LEADER: Status = fixed(Code::Unavailable, "etcdserver: no leader");
pub(crate) const STOPPED: Status = fixed(Code::Unavailable, "etcdserver: server stopped");
pub(crate) const NOT_FOR_LEARNERS: Status =
    fixed(Code::FailedPrecondition, "etcdserver: rpc not supported for learner");
pub(crate) const DEADLINE_EXCEEDED: Status = fixed(Code::DeadlineExceeded, "etcdserver: context deadline exceeded");
pub(crate) const KEY_NOT_PROVIDED: Status = fixed(Code::InvalidArgument, "etcdserver: key is not provided");
pub(crate) const KEY_NOT_FOUND: Status = fixed(Code::InvalidArgument, "etcdserver: key not found");
pub(crate) const VALUE_PROVIDED: Status = fixed(Code::InvalidArgument, "etcdserver: value is provided");
pub(crate) const LEASE_PROVIDED: Status = fixed(Code::InvalidArgument, "etcdserver: lease is provided");
pub(crate) const TOO_MANY_OPERATIONS: Status =
    fixed(Code::InvalidArgument, "etcdserver: too many operations in txn request");
pub(crate) const DUPLICATE_KEY: Status = fixed(Code::InvalidArgument, "etcdserver: duplicate key given in txn request");
pub(crate) const INVALID_SORT_OPTION: Status = fixed(Code::InvalidArgument, "etcdserver: invalid sort option");
pub(crate) const REQUEST_TOO_LARGE: Status = fixed(Code::InvalidArgument, "etcdserver: request is too large");
pub(crate) const NOT_LEADER: Status = fixed(Code::FailedPrecondition, "etcdserver: not leader");
pub(crate) const BAD_TRANSFEREE: Status = fixed(Code::FailedPrecondition, "etcdserver: bad leader transferee");
pub(crate) const INVALID_AUTH_TOKEN: Status = fixed(Code::Unauthenticated, "etcdserver: invalid auth token");
pub(crate) const TOO_MANY_REQUESTS: Status = fixed(Code::ResourceExhausted, "etcdserver: too many requests");
pub(crate) const NAME_TOO_LONG: Status = fixed(Code::InvalidArgument, "etcdserver: name is longer than 32768 bytes");
pub(crate) const LEARNER_NOT_READY: Status =
    fixed(Code::FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader");
pub(crate) const MEMBER_BAD_URLS: Status = fixed(Code::InvalidArgument, "etcdserver: given member URLs are invalid");
pub(crate) const WRONG_DOWNGRADE_VERSION: Status =
    fixed(Code::InvalidArgument, "etcdserver: wrong downgrade target version format");
pub(crate) const UNKNOWN_METHOD: Status = fixed(Code::Unknown, "etcdserver: unknown method");
pub(crate) const UNHEALTHY: Status = fixed(Code::Unavailable, "etcdserver: unhealthy cluster");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_outcome_keeps_its_text() {
        for (error, code) in [
            (Error::KeyNotFound, Code::InvalidArgument),
            (Error::Compacted, Code::OutOfRange),
            (Error::FutureRevision, Code::OutOfRange),
            (Error::NoSpace, Code::ResourceExhausted),
            (Error::LeaseNotFound, Code::NotFound),
            (Error::LeaseExists, Code::FailedPrecondition),
            (Error::LeaseTtlTooLarge, Code::OutOfRange),
            (Error::Corrupt, Code::DataLoss),
            (Error::MemberExists, Code::FailedPrecondition),
            (Error::PeerUrlExists, Code::FailedPrecondition),
            (Error::MemberNotFound, Code::NotFound),
            (Error::MemberNotLearner, Code::FailedPrecondition),
            (Error::TooManyLearners, Code::FailedPrecondition),
            (Error::NotEnoughStartedMembers, Code::Unknown),
            (Error::ClusterVersionUnavailable, Code::FailedPrecondition),
            (Error::InvalidDowngradeTarget, Code::InvalidArgument),
            (Error::DowngradeInProcess, Code::FailedPrecondition),
            (Error::NoInflightDowngrade, Code::FailedPrecondition),
        ] {
            let text = error.to_string();
            assert_eq!(Status::from(CallError::Store(error)), Status::new(code, text));
        }
    }

    #[test]
    fn refusals_are_etcds() {
        for (error, code, text) in [
            (CallError::Refused(Refusal::NoLeader), Code::Unavailable, "etcdserver: no leader"),
            (CallError::Refused(Refusal::TooManyRequests), Code::ResourceExhausted, "etcdserver: too many requests"),
            (CallError::Refused(Refusal::LeaderChanged), Code::Unavailable, "etcdserver: leader changed"),
            (CallError::Refused(Refusal::Stopped), Code::Unavailable, "etcdserver: server stopped"),
            (CallError::TimedOut, Code::Unavailable, "etcdserver: request timed out"),
        ] {
            assert_eq!(Status::from(error), Status::new(code, text));
        }
    }
}
