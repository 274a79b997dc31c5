//! What a command shows of a reply, in each of the five output forms.
//!
//! Not here: asking the server, and error messages. The invariant: this file alone decides which form a reply can take;
//! the files below it only know how a form looks.

mod fields;
mod json;
mod simple;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::time::Duration;

use quorate_proto::Message;
use quorate_proto::etcdserverpb as pb;

use super::client::WatchReply;
pub(crate) use simple::prefix_end;

use super::failure::{self, Failure};

/// The value of `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Json,
    Fields,
    Table,
    Protobuf,
}

impl Format {
    /// Reads the flag's value.
    ///
    /// # Errors
    /// A form that does not exist.
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        match text {
            "simple" => Ok(Self::Simple),
            "json" => Ok(Self::Json),
            "fields" => Ok(Self::Fields),
            "table" => Ok(Self::Table),
            "protobuf" => Ok(Self::Protobuf),
            _ => Err(Failure::new(failure::FEATURE, "unsupported output format")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Json => "json",
            Self::Fields => "fields",
            Self::Table => "table",
            Self::Protobuf => "protobuf",
        }
    }
}

/// How one endpoint answered a question after its health.
#[derive(Clone, Debug)]
pub(crate) struct EndpointHealth {
    pub(crate) endpoint: String,
    pub(crate) took: Duration,
    /// What is wrong with it; None for a healthy one.
    pub(crate) error: Option<String>,
}

/// A reply, with what of the request is needed to show it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply<'reply> {
    Get(&'reply pb::RangeResponse),
    Put(&'reply pb::PutResponse),
    Delete(&'reply pb::DeleteRangeResponse),
    Txn(&'reply pb::TxnResponse),
    Watch(&'reply WatchReply),
    LeaseGrant(&'reply pb::LeaseGrantResponse),
    LeaseRevoke {
        lease: i64,
        reply: &'reply pb::LeaseRevokeResponse,
    },
    LeaseKeepAlive(&'reply pb::LeaseKeepAliveResponse),
    LeaseTimeToLive {
        with_keys: bool,
        reply: &'reply pb::LeaseTimeToLiveResponse,
    },
    LeaseList(&'reply pb::LeaseLeasesResponse),
    AlarmList(&'reply pb::AlarmResponse),
    MemberAdd {
        name: &'reply str,
        reply: &'reply pb::MemberAddResponse,
    },
    MemberRemove {
        member: u64,
        reply: &'reply pb::MemberRemoveResponse,
    },
    MemberUpdate {
        member: u64,
        reply: &'reply pb::MemberUpdateResponse,
    },
    MemberPromote {
        member: u64,
        reply: &'reply pb::MemberPromoteResponse,
    },
    MemberList(&'reply pb::MemberListResponse),
    MoveLeader {
        leader: u64,
        target: u64,
        reply: &'reply pb::MoveLeaderResponse,
    },
    EndpointHealth(&'reply [EndpointHealth]),
    EndpointStatus(&'reply [(String, pb::StatusResponse)]),
    EndpointHashKv(&'reply [(String, pb::HashKvResponse)]),
    Downgrade {
        action: &'reply str,
        reply: &'reply pb::DowngradeResponse,
    },
    AuthStatus(&'reply pb::AuthStatusResponse),
    UserAdd {
        user: &'reply str,
        reply: &'reply pb::AuthUserAddResponse,
    },
    UserGet {
        user: &'reply str,
        reply: &'reply pb::AuthUserGetResponse,
    },
    UserList(&'reply pb::AuthUserListResponse),
    UserDelete {
        user: &'reply str,
        reply: &'reply pb::AuthUserDeleteResponse,
    },
    UserChangePassword(&'reply pb::AuthUserChangePasswordResponse),
    UserGrantRole {
        user: &'reply str,
        role: &'reply str,
        reply: &'reply pb::AuthUserGrantRoleResponse,
    },
    UserRevokeRole {
        user: &'reply str,
        role: &'reply str,
        reply: &'reply pb::AuthUserRevokeRoleResponse,
    },
    RoleAdd {
        role: &'reply str,
        reply: &'reply pb::AuthRoleAddResponse,
    },
    RoleGet {
        role: &'reply str,
        reply: &'reply pb::AuthRoleGetResponse,
    },
    RoleList(&'reply pb::AuthRoleListResponse),
    RoleDelete {
        role: &'reply str,
        reply: &'reply pb::AuthRoleDeleteResponse,
    },
    RoleGrant {
        role: &'reply str,
        reply: &'reply pb::AuthRoleGrantPermissionResponse,
    },
    RoleRevoke {
        role: &'reply str,
        key: &'reply [u8],
        range_end: &'reply [u8],
        reply: &'reply pb::AuthRoleRevokePermissionResponse,
    },
}

/// Shows replies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    pub(crate) format: Format,
    /// Bytes and numbers of members, leases and clusters in hexadecimal, where the form has a way for it.
    pub(crate) hex: bool,
    /// In the simple form, values without their keys.
    pub(crate) values_only: bool,
}

impl Printer {
    /// Writes a reply to the standard output.
    ///
    /// # Errors
    /// The reply has no such form, or the output is closed.
    pub(crate) fn print(&self, reply: Reply<'_>) -> Result<(), Failure> {
        write_out(&self.render(reply)?)
    }

    /// The bytes that [`Printer::print`] writes.
    ///
    /// # Errors
    /// The reply has no such form.
    pub(crate) fn render(&self, reply: Reply<'_>) -> Result<Vec<u8>, Failure> {
        let rendered = match self.format {
            Format::Simple => Some(simple::render(reply, self.hex, self.values_only)),
            Format::Json => Some(json::render(reply, self.hex).into_bytes()),
            Format::Fields => fields::render(reply, self.hex).map(String::into_bytes),
            Format::Table => table::render(reply).map(String::into_bytes),
            Format::Protobuf => protobuf(reply),
        };
        rendered.ok_or_else(|| {
            Failure::new(failure::FEATURE, format!("{} not supported as output format", self.format.name()))
        })
    }
}

/// Writes to the standard output.
///
/// # Errors
/// The output is closed.
pub(crate) fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    output
        .write_all(bytes)
        .and_then(|()| output.flush())
        .map_err(|error| Failure::new(failure::SERVER, format!("write /dev/stdout: {error}")))
}

/// The message as it came over the wire. Of a lease's replies etcdctl writes the header only, and so does this.
fn protobuf(reply: Reply<'_>) -> Option<Vec<u8>> {
    let header = |header: &Option<pb::ResponseHeader>| header.as_ref().map(Message::encode_to_vec).unwrap_or_default();
    Some(match reply {
        Reply::Get(reply) => reply.encode_to_vec(),
        Reply::Put(reply) => reply.encode_to_vec(),
        Reply::Delete(reply) => reply.encode_to_vec(),
        Reply::Txn(reply) => reply.encode_to_vec(),
        Reply::Watch(reply) => {
            let (header, events) = (reply.header, reply.events.clone());
            let (canceled, compact_revision) = (reply.ended.is_some(), reply.compact_revision);
            pb::WatchResponse { header, events, canceled, compact_revision, ..Default::default() }.encode_to_vec()
        }
        Reply::LeaseGrant(reply) => header(&reply.header),
        Reply::LeaseRevoke { reply, .. } => reply.encode_to_vec(),
        Reply::LeaseKeepAlive(reply) => header(&reply.header),
        Reply::LeaseTimeToLive { reply, .. } => header(&reply.header),
        Reply::LeaseList(reply) => header(&reply.header),
        Reply::AlarmList(reply) => reply.encode_to_vec(),
        Reply::MemberAdd { reply, .. } => reply.encode_to_vec(),
        Reply::MemberRemove { reply, .. } => reply.encode_to_vec(),
        Reply::MemberUpdate { reply, .. } => reply.encode_to_vec(),
        Reply::MemberPromote { reply, .. } => reply.encode_to_vec(),
        Reply::MemberList(reply) => reply.encode_to_vec(),
        Reply::MoveLeader { reply, .. } => reply.encode_to_vec(),
        Reply::EndpointHealth(_) | Reply::EndpointStatus(_) | Reply::EndpointHashKv(_) => return None,
        Reply::Downgrade { reply, .. } => reply.encode_to_vec(),
        Reply::AuthStatus(reply) => reply.encode_to_vec(),
        Reply::UserAdd { reply, .. } => reply.encode_to_vec(),
        Reply::UserGet { reply, .. } => reply.encode_to_vec(),
        Reply::UserList(reply) => reply.encode_to_vec(),
        Reply::UserDelete { reply, .. } => reply.encode_to_vec(),
        Reply::UserChangePassword(reply) => reply.encode_to_vec(),
        Reply::UserGrantRole { reply, .. } => reply.encode_to_vec(),
        Reply::UserRevokeRole { reply, .. } => reply.encode_to_vec(),
        Reply::RoleAdd { reply, .. } => reply.encode_to_vec(),
        Reply::RoleGet { reply, .. } => reply.encode_to_vec(),
        Reply::RoleList(reply) => reply.encode_to_vec(),
        Reply::RoleDelete { reply, .. } => reply.encode_to_vec(),
        Reply::RoleGrant { reply, .. } => reply.encode_to_vec(),
        Reply::RoleRevoke { reply, .. } => reply.encode_to_vec(),
    })
}

/// The header of a reply that consists of nothing else worth showing.
fn header_of(reply: Reply<'_>) -> Option<&Option<pb::ResponseHeader>> {
    Some(match reply {
        Reply::LeaseRevoke { reply, .. } => &reply.header,
        Reply::MoveLeader { reply, .. } => &reply.header,
        Reply::UserAdd { reply, .. } => &reply.header,
        Reply::UserDelete { reply, .. } => &reply.header,
        Reply::UserChangePassword(reply) => &reply.header,
        Reply::UserGrantRole { reply, .. } => &reply.header,
        Reply::UserRevokeRole { reply, .. } => &reply.header,
        Reply::RoleAdd { reply, .. } => &reply.header,
        Reply::RoleDelete { reply, .. } => &reply.header,
        Reply::RoleGrant { reply, .. } => &reply.header,
        Reply::RoleRevoke { reply, .. } => &reply.header,
        _ => return None,
    })
}
