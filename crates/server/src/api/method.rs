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

macro_rules! methods {
    ($($method:ident $service:literal $name:literal $kind:ident $shape:expr;)*) => {
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

            /// What its request nests.
            pub(crate) fn shape(self) -> Shape {
                match self { $(Self::$method => $shape,)* }
            }
        }
    };
}

methods! {
    Range "etcdserverpb.KV" "Range" Unary Shape::Flat;
    Put "etcdserverpb.KV" "Put" Unary Shape::Flat;
    Txn "etcdserverpb.KV" "Txn" Unary Shape::Txn;
    DeleteRange "etcdserverpb.KV" "DeleteRange" Unary Shape::Flat;
    Compact "etcdserverpb.KV" "Compact" Unary Shape::Flat;
    RangeStream "etcdserverpb.KV" "RangeStream" ServerStream Shape::Flat;
    Watch "etcdserverpb.Watch" "Watch" BidiStream Shape::Holds(&[1, 2, 3]);
    LeaseGrant "etcdserverpb.Lease" "LeaseGrant" Unary Shape::Flat;
    LeaseRevoke "etcdserverpb.Lease" "LeaseRevoke" Unary Shape::Flat;
    LeaseKeepAlive "etcdserverpb.Lease" "LeaseKeepAlive" BidiStream Shape::Flat;
    LeaseTimeToLive "etcdserverpb.Lease" "LeaseTimeToLive" Unary Shape::Flat;
    LeaseLeases "etcdserverpb.Lease" "LeaseLeases" Unary Shape::Flat;
    MemberAdd "etcdserverpb.Cluster" "MemberAdd" Unary Shape::Flat;
    MemberRemove "etcdserverpb.Cluster" "MemberRemove" Unary Shape::Flat;
    MemberUpdate "etcdserverpb.Cluster" "MemberUpdate" Unary Shape::Flat;
    MemberList "etcdserverpb.Cluster" "MemberList" Unary Shape::Flat;
    MemberPromote "etcdserverpb.Cluster" "MemberPromote" Unary Shape::Flat;
    Alarm "etcdserverpb.Maintenance" "Alarm" Unary Shape::Flat;
    Status "etcdserverpb.Maintenance" "Status" Unary Shape::Flat;
    Defragment "etcdserverpb.Maintenance" "Defragment" Unary Shape::Flat;
    Hash "etcdserverpb.Maintenance" "Hash" Unary Shape::Flat;
    HashKv "etcdserverpb.Maintenance" "HashKV" Unary Shape::Flat;
    Snapshot "etcdserverpb.Maintenance" "Snapshot" ServerStream Shape::Flat;
    MoveLeader "etcdserverpb.Maintenance" "MoveLeader" Unary Shape::Flat;
    Downgrade "etcdserverpb.Maintenance" "Downgrade" Unary Shape::Flat;
    AuthEnable "etcdserverpb.Auth" "AuthEnable" Unary Shape::Flat;
    AuthDisable "etcdserverpb.Auth" "AuthDisable" Unary Shape::Flat;
    AuthStatus "etcdserverpb.Auth" "AuthStatus" Unary Shape::Flat;
    Authenticate "etcdserverpb.Auth" "Authenticate" Unary Shape::Flat;
    UserAdd "etcdserverpb.Auth" "UserAdd" Unary Shape::Holds(&[3]);
    UserGet "etcdserverpb.Auth" "UserGet" Unary Shape::Flat;
    UserList "etcdserverpb.Auth" "UserList" Unary Shape::Flat;
    UserDelete "etcdserverpb.Auth" "UserDelete" Unary Shape::Flat;
    UserChangePassword "etcdserverpb.Auth" "UserChangePassword" Unary Shape::Flat;
    UserGrantRole "etcdserverpb.Auth" "UserGrantRole" Unary Shape::Flat;
    UserRevokeRole "etcdserverpb.Auth" "UserRevokeRole" Unary Shape::Flat;
    RoleAdd "etcdserverpb.Auth" "RoleAdd" Unary Shape::Flat;
    RoleGet "etcdserverpb.Auth" "RoleGet" Unary Shape::Flat;
    RoleList "etcdserverpb.Auth" "RoleList" Unary Shape::Flat;
    RoleDelete "etcdserverpb.Auth" "RoleDelete" Unary Shape::Flat;
    RoleGrantPermission "etcdserverpb.Auth" "RoleGrantPermission" Unary Shape::Holds(&[2]);
    RoleRevokePermission "etcdserverpb.Auth" "RoleRevokePermission" Unary Shape::Flat;
    Lock "v3lockpb.Lock" "Lock" Unary Shape::Flat;
    Unlock "v3lockpb.Lock" "Unlock" Unary Shape::Flat;
    Campaign "v3electionpb.Election" "Campaign" Unary Shape::Flat;
    Proclaim "v3electionpb.Election" "Proclaim" Unary Shape::Holds(&[1]);
    Leader "v3electionpb.Election" "Leader" Unary Shape::Flat;
    Observe "v3electionpb.Election" "Observe" ServerStream Shape::Flat;
    Resign "v3electionpb.Election" "Resign" Unary Shape::Holds(&[1]);
    HealthCheck "grpc.health.v1.Health" "Check" Unary Shape::Flat;
    HealthList "grpc.health.v1.Health" "List" Unary Shape::Flat;
    HealthWatch "grpc.health.v1.Health" "Watch" ServerStream Shape::Flat;
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
