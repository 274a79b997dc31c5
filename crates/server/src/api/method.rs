//! Every method of the client port: path, kind, and the shape of its request.

use crate::grpc::shape::Shape;

/// Who sends how many messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One request, one answer.
    Unary,
    /// One request, a stream of answers.
    ServerStream,
    /// Streams both ways.
    BidiStream,
}

impl Kind {
    /// The name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// What decides whether a client may call a method, while auth is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JudgedBy {
    /// Everybody may, with whatever credentials: it is how one becomes somebody, or tells nothing.
    Nobody,
    /// The method alone: it is judged before its request is looked at.
    Method,
    /// What is asked for: the service says what that is.
    Request,
}

macro_rules! methods {
    ($($method:ident $service:literal $name:literal $kind:ident $judged_by:ident $shape:expr;)*) => {
        /// A method; named by its own name, with its service in front where two services share it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Method { $($method,)* }

        impl Method {
            /// All methods, by their number.
            pub(crate) const ALL: &[Self] = &[$(Self::$method,)*];

            /// The method of a path.
            pub(crate) fn find(path: &str) -> Option<Self> {
                match path {
                    $(concat!("/", $service, "/", $name) => Some(Self::$method),)*
                    _ => None,
                }
            }

            /// The path.
            pub(crate) fn path(self) -> &'static str {
                match self { $(Self::$method => concat!("/", $service, "/", $name),)* }
            }

            /// The service's full name.
            pub(crate) fn service(self) -> &'static str {
                match self { $(Self::$method => $service,)* }
            }

            /// The method's name within its service.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$method => $name,)* }
            }

            /// Who sends how many messages.
            pub(crate) fn kind(self) -> Kind {
                match self { $(Self::$method => Kind::$kind,)* }
            }

            /// What decides whether a client may call it.
            pub(crate) fn judged_by(self) -> JudgedBy {
                match self { $(Self::$method => JudgedBy::$judged_by,)* }
            }

            /// What its request nests.
            pub(crate) fn shape(self) -> Shape {
                match self { $(Self::$method => $shape,)* }
            }
        }
    };
}

methods! {
    Range "etcdserverpb.KV" "Range" Unary Request Shape::Flat;
    Put "etcdserverpb.KV" "Put" Unary Request Shape::Flat;
    Txn "etcdserverpb.KV" "Txn" Unary Request Shape::Txn;
    DeleteRange "etcdserverpb.KV" "DeleteRange" Unary Request Shape::Flat;
    Compact "etcdserverpb.KV" "Compact" Unary Request Shape::Flat;
    RangeStream "etcdserverpb.KV" "RangeStream" ServerStream Request Shape::Flat;
    Watch "etcdserverpb.Watch" "Watch" BidiStream Request Shape::Holds(&[1, 2, 3]);
    LeaseGrant "etcdserverpb.Lease" "LeaseGrant" Unary Request Shape::Flat;
    LeaseRevoke "etcdserverpb.Lease" "LeaseRevoke" Unary Request Shape::Flat;
    LeaseKeepAlive "etcdserverpb.Lease" "LeaseKeepAlive" BidiStream Request Shape::Flat;
    LeaseTimeToLive "etcdserverpb.Lease" "LeaseTimeToLive" Unary Request Shape::Flat;
    LeaseLeases "etcdserverpb.Lease" "LeaseLeases" Unary Request Shape::Flat;
    MemberAdd "etcdserverpb.Cluster" "MemberAdd" Unary Request Shape::Flat;
    MemberRemove "etcdserverpb.Cluster" "MemberRemove" Unary Method Shape::Flat;
    MemberUpdate "etcdserverpb.Cluster" "MemberUpdate" Unary Request Shape::Flat;
    MemberList "etcdserverpb.Cluster" "MemberList" Unary Method Shape::Flat;
    MemberPromote "etcdserverpb.Cluster" "MemberPromote" Unary Method Shape::Flat;
    Alarm "etcdserverpb.Maintenance" "Alarm" Unary Request Shape::Flat;
    Status "etcdserverpb.Maintenance" "Status" Unary Method Shape::Flat;
    Defragment "etcdserverpb.Maintenance" "Defragment" Unary Method Shape::Flat;
    Hash "etcdserverpb.Maintenance" "Hash" Unary Method Shape::Flat;
    HashKv "etcdserverpb.Maintenance" "HashKV" Unary Method Shape::Flat;
    Snapshot "etcdserverpb.Maintenance" "Snapshot" ServerStream Method Shape::Flat;
    MoveLeader "etcdserverpb.Maintenance" "MoveLeader" Unary Method Shape::Flat;
    Downgrade "etcdserverpb.Maintenance" "Downgrade" Unary Method Shape::Flat;
    AuthEnable "etcdserverpb.Auth" "AuthEnable" Unary Request Shape::Flat;
    AuthDisable "etcdserverpb.Auth" "AuthDisable" Unary Request Shape::Flat;
    AuthStatus "etcdserverpb.Auth" "AuthStatus" Unary Request Shape::Flat;
    Authenticate "etcdserverpb.Auth" "Authenticate" Unary Nobody Shape::Flat;
    UserAdd "etcdserverpb.Auth" "UserAdd" Unary Request Shape::Holds(&[3]);
    UserGet "etcdserverpb.Auth" "UserGet" Unary Request Shape::Flat;
    UserList "etcdserverpb.Auth" "UserList" Unary Request Shape::Flat;
    UserDelete "etcdserverpb.Auth" "UserDelete" Unary Request Shape::Flat;
    UserChangePassword "etcdserverpb.Auth" "UserChangePassword" Unary Request Shape::Flat;
    UserGrantRole "etcdserverpb.Auth" "UserGrantRole" Unary Request Shape::Flat;
    UserRevokeRole "etcdserverpb.Auth" "UserRevokeRole" Unary Request Shape::Flat;
    RoleAdd "etcdserverpb.Auth" "RoleAdd" Unary Request Shape::Flat;
    RoleGet "etcdserverpb.Auth" "RoleGet" Unary Request Shape::Flat;
    RoleList "etcdserverpb.Auth" "RoleList" Unary Request Shape::Flat;
    RoleDelete "etcdserverpb.Auth" "RoleDelete" Unary Request Shape::Flat;
    RoleGrantPermission "etcdserverpb.Auth" "RoleGrantPermission" Unary Request Shape::Holds(&[2]);
    RoleRevokePermission "etcdserverpb.Auth" "RoleRevokePermission" Unary Request Shape::Flat;
    Lock "v3lockpb.Lock" "Lock" Unary Request Shape::Flat;
    Unlock "v3lockpb.Lock" "Unlock" Unary Request Shape::Flat;
    Campaign "v3electionpb.Election" "Campaign" Unary Request Shape::Flat;
    Proclaim "v3electionpb.Election" "Proclaim" Unary Request Shape::Holds(&[1]);
    Leader "v3electionpb.Election" "Leader" Unary Request Shape::Flat;
    Observe "v3electionpb.Election" "Observe" ServerStream Request Shape::Flat;
    Resign "v3electionpb.Election" "Resign" Unary Request Shape::Holds(&[1]);
    HealthCheck "grpc.health.v1.Health" "Check" Unary Nobody Shape::Flat;
    HealthList "grpc.health.v1.Health" "List" Unary Nobody Shape::Flat;
    HealthWatch "grpc.health.v1.Health" "Watch" ServerStream Nobody Shape::Flat;
}

impl Method {
    /// What etcd calls the work of such a call in its traces; it names no more than these.
    pub(crate) fn operation(self) -> Option<&'static str> {
        Some(match self {
            Self::Range => "range",
            Self::RangeStream => "range_streaming",
            Self::Put => "put",
            Self::DeleteRange => "delete_range",
            Self::Txn => "txn",
            Self::Compact => "compact",
            Self::LeaseGrant => "lease_grant",
            Self::LeaseRevoke => "lease_revoke",
            _ => return None,
        })
    }
}

/// Whether a service of this name is served.
pub(crate) fn service_exists(service: &str) -> bool {
    Method::ALL.iter().any(|method| method.service() == service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path() {
        for (number, &method) in Method::ALL.iter().enumerate() {
            assert_eq!(method as usize, number);
            assert_eq!(Method::find(&format!("/{}/{}", method.service(), method.name())), Some(method));
        }
        for path in
            ["", "/", "/etcdserverpb.KV/", "/etcdserverpb.KV/put", "etcdserverpb.KV/Put", "/etcdserverpb.KV/Put/"]
        {
            assert_eq!(Method::find(path), None, "{path}");
        }
        assert!(service_exists("v3lockpb.Lock"));
        assert!(!service_exists("v3lockpb"));
    }
}
