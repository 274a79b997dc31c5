//! The services of the client port over the [`Backend`]: who answers what.
//!
//! Requests are judged here once; what is handed to the backend can't be malformed.

pub(crate) mod auth;
mod checks;
mod client;
pub(crate) mod cluster;
mod downgrade;
mod election;
mod ending;
mod error;
mod header;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
pub(crate) mod method;
mod queue;
mod quota;
mod range;
mod slow;
mod snapshot;
mod watch;
mod wire;

use crate::auth::{Authenticator, Credentials};
use crate::backend::Backend;
use crate::connection::{ConnectionInfo, ConnectionSettings, Traffic};
use crate::grpc::body::{Chunk, ChunkStream, ReplyBody};
use crate::grpc::head::{CallHead, is_grpc};
use crate::grpc::request::{MessageReader, decode};
use crate::grpc::status::{Code, Status};
use crate::http::{self as plain_http, DebugPages, HttpSettings};
use crate::metrics::{CallRecord, Metrics};
use crate::peer::Transport;
use crate::spans::{TRACEPARENT, Tracer};
use bytes::Bytes;
use error::{DEADLINE_EXCEEDED, NO_LEADER, NOT_FOR_LEARNERS};
use futures::Stream;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use method::{JudgedBy, Kind, Method, service_exists};
use quorate_proto::Message;
use quorate_proto::etcdserverpb::ResponseHeader;
use quorate_proto::quoratepb::command::Operation;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Sleep};

/// What a message may be larger than the largest request (etcd's allowance for its frame).
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

/// Longer waits than this are not told from it.
const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// `client-api-version`, which etcd's Go client tells.
const CLIENT_API_VERSION: &str = "client-api-version";

const GRPC_CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");

/// Turns true when the server stops.
pub(crate) type Stopping = Receiver<bool>;

/// Shared by all client connections.
pub struct ClientSurface {
    /// The door to the store.
    pub backend: Backend,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// `--election-timeout`: how long a leader may be silent before callers that want one are told.
    pub election_timeout: Duration,
    /// Pages about the process.
    pub(crate) debug_pages: DebugPages,
    /// With `--enable-distributed-tracing`.
    tracer: Option<Arc<Tracer>>,
    /// What proves who calls.
    pub authenticator: Authenticator,
    /// What HTTP serves, and to whom.
    pub(crate) http: HttpSettings,
    /// How clients' connections are kept.
    pub(crate) connection: ConnectionSettings,
    /// What changes of members look at.
    cluster: ClusterView,
    quota: quota::Quota,
    /// One for each snapshot that may be under way.
    snapshots: Arc<Semaphore>,
}

/// What the client port serves beside the store, and how.
pub(crate) struct PortSettings {
    pub(crate) debug_pages: DebugPages,
    pub(crate) http: HttpSettings,
    pub(crate) connection: ConnectionSettings,
}

/// What changes of members look at, beside the table of members.
pub(crate) struct ClusterView {
    /// Who is connected.
    pub(crate) peers: Transport,
    /// `--strict-reconfig-check`.
    pub(crate) strict: bool,
    /// `--max-learners`.
    pub(crate) learners_max: u32,
}

impl ClientSurface {
    /// For all connections of a server.
    pub(crate) fn new(
        backend: Backend,
        metrics: Arc<Metrics>,
        election_timeout: Duration,
        authenticator: Authenticator,
        port: PortSettings,
        tracer: Option<Arc<Tracer>>,
        cluster: ClusterView,
    ) -> Self {
        let PortSettings { debug_pages, http, connection } = port;
        Self {
            backend,
            metrics,
            election_timeout,
            authenticator,
            debug_pages,
            http,
            connection,
            tracer,
            cluster,
            quota: quota::Quota::default(),
            snapshots: Arc::new(Semaphore::new(snapshot::SNAPSHOTS_MAX)),
        }
    }

    /// The header of an answer as of `revision`.
    pub(crate) fn header(&self, revision: i64) -> ResponseHeader {
        let identity = self.backend.identity();
        ResponseHeader {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            revision,
            raft_term: self.backend.status().term,
        }
    }

    /// Bytes of one message of a caller.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.backend.limits().request_bytes_max + MESSAGE_OVERHEAD_BYTES
    }

    /// Decodes a request of a method.
    fn decode<M: Message + Default>(&self, method: Method, bytes: Bytes) -> Result<M, Status> {
        // The outermost transaction and one level per operation.
        decode(bytes, method.shape(), self.backend.limits().txn_operations_max.saturating_add(1))
    }
}

/// What a method answers.
pub(crate) enum Reply {
    /// One framed message.
    Message(Bytes),
    /// Framed messages as they come.
    Stream(ChunkStream),
}

/// A call with everything that answering it needs.
struct Call {
    surface: Arc<ClientSurface>,
    method: Method,
    require_leader: bool,
    stopping: Stopping,
    credentials: Option<Box<Credentials>>,
    /// Whether it was judged, or needs no judgement; see [`client`].
    judged: AtomicBool,
}

/// What a request turned out to be.
enum Begun {
    /// Its answer is there already.
    Done(Response<ReplyBody>),
    /// A unary call, or one that answers a single message with a stream.
    Call(UnaryCall<Incoming>),
    /// Plain HTTP.
    Plain(Pin<Box<dyn Future<Output = Response<ReplyBody>> + Send>>),
}

/// Answers any request. What needs no waiting is done at once, so that the future, which is moved into a task of its own,
/// holds the least.
pub(crate) fn answer(
    surface: &Arc<ClientSurface>,
    info: &ConnectionInfo,
    request: Request<Incoming>,
    stopping: Stopping,
) -> impl Future<Output = Response<ReplyBody>> + Send + use<> {
    let begun = begin(surface, info, request, stopping);
    async move {
        match begun {
            Begun::Done(response) => response,
            Begun::Plain(answer) => answer.await,
            Begun::Call(mut call) => {
                let outcome = call.outcome().await;
                response(concluded(call, outcome))
            }
        }
    }
}

fn begin(surface: &Arc<ClientSurface>, info: &ConnectionInfo, request: Request<Incoming>, stopping: Stopping) -> Begun {
    if info.traffic == Traffic::Http {
        let (surface, info) = (surface.clone(), info.clone());
        return Begun::Plain(Box::pin(async move { plain_http::answer(&surface, &info, request, stopping).await }));
    }
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let path = request.uri().path();
    let speaks_grpc = is_grpc(content_type) && request.version() == http::Version::HTTP_2;
    if speaks_grpc && request.method() == http::Method::POST {
        return match Method::find(path) {
            Some(method) => {
                let (parts, body) = request.into_parts();
                match open(surface, Some(info), method, &parts.headers, body, stopping) {
                    Opened::Done(outcome) => Begun::Done(response(outcome)),
                    Opened::Call(call) => Begun::Call(call),
                }
            }
            None => Begun::Done(refused(&unknown(path))),
        };
    }
    if info.traffic == Traffic::Grpc {
        return Begun::Done(no_call(request.method(), content_type));
    }
    if split_path(path).is_some_and(|(service, _)| service_exists(service)) {
        return Begun::Done(if request.method() == http::Method::POST {
            plain_http::refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "invalid gRPC request content-type or protocol version\n",
            )
        } else {
            plain_http::refusal(StatusCode::METHOD_NOT_ALLOWED, "invalid gRPC request method\n")
        });
    }
    let (surface, info) = (surface.clone(), info.clone());
    Begun::Plain(Box::pin(async move { plain_http::answer(&surface, &info, request, stopping).await }))
}

fn split_path(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.rsplit_once('/')
}

/// What gRPC-Go says of a path that nobody serves.
fn unknown(path: &str) -> Status {
    let text = match split_path(path) {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if service_exists(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    };
    Status::new(Code::Unimplemented, text)
}

/// What gRPC-Go's own server says to what is no call of gRPC.
fn no_call(method: &http::Method, content_type: &[u8]) -> Response<ReplyBody> {
    let (code, text, status) = if is_grpc(content_type) {
        let text = format!("Received a HEADERS frame with :method {:?} which should be POST", method.as_str());
        (Code::Internal, text, StatusCode::METHOD_NOT_ALLOWED)
    } else {
        let text = format!("invalid gRPC request content-type {:?}", String::from_utf8_lossy(content_type));
        (Code::InvalidArgument, text, StatusCode::UNSUPPORTED_MEDIA_TYPE)
    };
    let mut response = refused(&Status::new(code, text));
    *response.status_mut() = status;
    response
}

/// A response that is nothing but its status.
fn refused(status: &Status) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Empty);
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT);
    status.write_to(response.headers_mut());
    response
}

/// A call whose head was read.
enum Opened<B> {
    /// It came to its outcome, or answers with a stream that reads the rest.
    Done(Result<Reply, Status>),
    /// Its message is still to come.
    Call(UnaryCall<B>),
}

/// Begins a call with the metadata in `headers` and framed messages in `body`. `info`: of the caller's connection, unless it is this
/// process.
fn open<B>(
    surface: &Arc<ClientSurface>,
    info: Option<&ConnectionInfo>,
    method: Method,
    headers: &HeaderMap,
    body: B,
    stopping: Stopping,
) -> Opened<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    let mut record = CallRecord::start(surface.metrics.clone(), method, info.and_then(|info| info.remote.clone()));
    let common_name = info.and_then(|info| info.common_name.as_ref());
    if let Some(tracer) = &surface.tracer {
        let traceparent = headers.get(TRACEPARENT).map(HeaderValue::as_bytes);
        record.set_span(tracer.begin(method, traceparent));
    }
    let client_version = headers.get(CLIENT_API_VERSION).and_then(|value| value.to_str().ok());
    surface.metrics.client_versions.count(client_version, method.kind() != Kind::Unary);
    let head = match CallHead::read(headers) {
        Ok(head) => head,
        Err(status) => {
            record.end(status.code);
            return Opened::Done(Err(status));
        }
    };
    let call = Call {
        surface: surface.clone(),
        method,
        require_leader: head.require_leader,
        stopping,
        credentials: Credentials::read(headers, common_name),
        judged: AtomicBool::new(false),
    };
    let deadline = head.timeout.map(|timeout| Instant::now() + timeout.min(CALL_TIMEOUT_MAX));
    if let Err(status) = call.check_member() {
        record.end(status.code);
        return Opened::Done(Err(status));
    }
    let reader = MessageReader::new(body, surface.message_bytes_max(), head.encoding);
    match method {
        Method::Watch => Opened::Done(recorded(Ok(watch::watch(call, reader)), record, deadline)),
        Method::LeaseKeepAlive => Opened::Done(recorded(Ok(lease::keep_alive(call, reader)), record, deadline)),
        _ => Opened::Call(UnaryCall { call, reader, record, deadline, request: Bytes::new() }),
    }
}

/// Makes a call from inside the process, with all that gRPC's has: metadata, deadline, counters. `body` holds framed
/// messages.
pub(crate) async fn call<B>(
    surface: &Arc<ClientSurface>,
    method: Method,
    metadata: &HeaderMap,
    body: B,
    stopping: Stopping,
) -> Result<Reply, Status>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    match open(surface, None, method, metadata, body, stopping) {
        Opened::Done(outcome) => outcome,
        Opened::Call(mut call) => {
            let outcome = call.outcome().await;
            concluded(call, outcome)
        }
    }
}

/// A call that came to its outcome, told if it was slow, and counted.
fn concluded<B>(call: UnaryCall<B>, outcome: Result<Reply, Status>) -> Result<Reply, Status> {
    let UnaryCall { call: Call { surface, method, .. }, record, request, .. } = &call;
    slow::tell_if_slow(surface, *method, record.remote(), request, &outcome, record.started());
    recorded(outcome, call.record, call.deadline)
}

/// Counts a call's outcome; a stream is counted while it lasts, and ends at the deadline.
fn recorded(
    outcome: Result<Reply, Status>,
    mut record: CallRecord,
    deadline: Option<Instant>,
) -> Result<Reply, Status> {
    match outcome {
        Ok(Reply::Message(bytes)) => {
            record.sent(1, bytes.len());
            record.end(Code::Ok);
            Ok(Reply::Message(bytes))
        }
        Ok(Reply::Stream(stream)) => {
            let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
            Ok(Reply::Stream(Box::pin(Recorded { stream, deadline, record })))
        }
        Err(status) => {
            record.end(status.code);
            Err(status)
        }
    }
}

/// The response to a call that came to its outcome.
fn response(outcome: Result<Reply, Status>) -> Response<ReplyBody> {
    let body = match outcome {
        Ok(Reply::Message(bytes)) => ReplyBody::Message(bytes),
        Ok(Reply::Stream(stream)) => ReplyBody::Stream(stream),
        Err(status) => return refused(&status),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT);
    response
}

/// A streamed answer that is counted and ends at its deadline.
struct Recorded {
    stream: ChunkStream,
    deadline: Option<Pin<Box<Sleep>>>,
    record: CallRecord,
}

impl Stream for Recorded {
    type Item = Result<Chunk, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.record.end(Code::DeadlineExceeded);
            return Poll::Ready(Some(Err(DEADLINE_EXCEEDED)));
        }
        let item = ready!(self.stream.as_mut().poll_next(cx));
        match &item {
            Some(Ok(chunk)) => self.record.sent(chunk.messages, chunk.bytes.len()),
            Some(Err(status)) => {
                let code = status.code;
                self.record.end(code);
            }
            None => self.record.end(Code::Ok),
        }
        Poll::Ready(item)
    }
}

/// What a learner answers: as in etcd serializable ranges (which `kv` looks at), status and snapshots; beyond etcd
/// watches, which tell what this member has applied and promise no more elsewhere.
fn serves_as_learner(method: Method) -> bool {
    matches!(method, Method::Range | Method::Status | Method::Snapshot | Method::Watch)
}

/// What a member tells whose data is not to be trusted: nothing that comes from the data.
fn serves_without_data(method: Method) -> bool {
    matches!(
        method,
        Method::Status
            | Method::MemberList
            | Method::MoveLeader
            | Method::Defragment
            | Method::HealthCheck
            | Method::HealthList
            | Method::HealthWatch
    )
}

/// A call whose caller says one thing.
struct UnaryCall<B> {
    call: Call,
    reader: MessageReader<B>,
    record: CallRecord,
    deadline: Option<Instant>,
    /// What the caller said, for the line that tells of a slow request.
    request: Bytes,
}

impl<B: Body<Data = Bytes> + Unpin> UnaryCall<B> {
    async fn outcome(&mut self) -> Result<Reply, Status> {
        match self.deadline {
            None => self.answered().await,
            Some(deadline) => {
                Box::pin(tokio::time::timeout_at(deadline, self.answered())).await.unwrap_or(Err(DEADLINE_EXCEEDED))
            }
        }
    }

    async fn answered(&mut self) -> Result<Reply, Status> {
        let bytes = self.reader.unary().await?;
        self.record.received(bytes.len());
        self.request = bytes.clone();
        let reply = if let Some(stages) = self.record.stages() {
            let operation = self.call.method.operation();
            Box::pin(stages.run(operation, self.call.answer_any(bytes))).await
        } else {
            match self.call.method {
                Method::Range => kv::range(&self.call, bytes).await,
                Method::Put => kv::put(&self.call, bytes).await.map(Reply::Message),
                // The others are rarer, or wait long: kept out of the way so that a call's future stays small.
                _ => Box::pin(self.call.answer_any(bytes)).await,
            }
        }?;
        self.call.must_be_judged()?;
        Ok(reply)
    }
}

impl Call {
    /// Whether this member may answer such a call at all.
    fn check_member(&self) -> Result<(), Status> {
        let status = self.surface.backend.status();
        if self.require_leader && status.leader == 0 {
            return Err(NO_LEADER);
        }
        if status.is_learner && !serves_as_learner(self.method) {
            return Err(NOT_FOR_LEARNERS);
        }
        if self.surface.backend.reader().is_quarantined() && !serves_without_data(self.method) {
            return Err(quorate_store::error::Error::Corrupt.into());
        }
        Ok(())
    }

    /// A call that may wait for as long as it likes, but not longer than the server serves.
    async fn unless_stopped(&self, answer: impl Future<Output = Result<Bytes, Status>>) -> Result<Bytes, Status> {
        tokio::select! {
            outcome = answer => outcome,
            () = ending::stopped(self.stopping.clone()) => Err(error::STOPPED),
        }
    }

    async fn answer_any(&self, bytes: Bytes) -> Result<Reply, Status> {
        let surface = &self.surface;
        match self.method.judged_by() {
            JudgedBy::Nobody => self.needs_no_judgement(),
            JudgedBy::Method => self.authorize_method().await?,
            JudgedBy::Request => {}
        }
        let message = match self.method {
            Method::HealthCheck => health::check(bytes),
            Method::HealthList => health::list(bytes),
            Method::HealthWatch => return health::watch(self, bytes),
            Method::Range => return kv::range(self, bytes).await,
            Method::Put => kv::put(self, bytes).await,
            Method::Txn => kv::txn(self, bytes).await,
            Method::DeleteRange => kv::delete_range(self, bytes).await,
            Method::RangeStream => return kv::range_stream(self, bytes).await,
            Method::Observe => return election::observe(self, bytes).await,
            Method::Compact => kv::compact(self, bytes).await,
            Method::LeaseGrant => lease::grant(self, bytes).await,
            Method::LeaseRevoke => lease::revoke(self, bytes).await,
            Method::LeaseTimeToLive => lease::time_to_live(self, bytes).await,
            Method::LeaseLeases => lease::leases(self, bytes).await,
            Method::MemberList => cluster::member_list(surface, bytes).await,
            Method::MemberAdd => cluster::member_add(self, bytes).await,
            Method::MemberRemove => cluster::member_remove(surface, bytes).await,
            Method::MemberUpdate => cluster::member_update(self, bytes).await,
            Method::MemberPromote => cluster::member_promote(surface, bytes).await,
            Method::Alarm => maintenance::alarm(self, bytes).await,
            Method::Status => maintenance::status(surface, bytes),
            Method::Defragment => maintenance::defragment(surface, bytes),
            Method::Hash => maintenance::hash(surface, bytes).await,
            Method::HashKv => maintenance::hash_kv(surface, bytes).await,
            Method::MoveLeader => maintenance::move_leader(surface, bytes).await,
            Method::AuthStatus => auth::status(self, bytes).await,
            Method::Authenticate => auth::authenticate(self, bytes).await,
            Method::Lock => self.unless_stopped(lock::lock(self, bytes)).await,
            Method::Unlock => lock::unlock(self, bytes).await,
            Method::Campaign => self.unless_stopped(election::campaign(self, bytes)).await,
            Method::Proclaim => election::proclaim(self, bytes).await,
            Method::Leader => election::leader(self, bytes).await,
            Method::Resign => election::resign(self, bytes).await,
            Method::Watch | Method::LeaseKeepAlive => unreachable!("answered before this is asked"),
            Method::Snapshot => return snapshot::snapshot(self, bytes).await,
            Method::Downgrade => downgrade::downgrade(surface, bytes).await,
            Method::AuthEnable => auth::change_as_asked(self, bytes, Operation::AuthEnable).await,
            Method::AuthDisable => auth::change_as_asked(self, bytes, Operation::AuthDisable).await,
            Method::UserAdd => auth::user_add(self, bytes).await,
            Method::UserGet => auth::user_get(self, bytes).await,
            Method::UserList => auth::user_list(self, bytes).await,
            Method::UserDelete => auth::change_as_asked(self, bytes, Operation::AuthUserDelete).await,
            Method::UserChangePassword => auth::user_change_password(self, bytes).await,
            Method::UserGrantRole => auth::change_as_asked(self, bytes, Operation::AuthUserGrantRole).await,
            Method::UserRevokeRole => auth::change_as_asked(self, bytes, Operation::AuthUserRevokeRole).await,
            Method::RoleAdd => auth::role_add(self, bytes).await,
            Method::RoleGet => auth::role_get(self, bytes).await,
            Method::RoleList => auth::role_list(self, bytes).await,
            Method::RoleDelete => auth::change_as_asked(self, bytes, Operation::AuthRoleDelete).await,
            Method::RoleGrantPermission => auth::change_as_asked(self, bytes, Operation::AuthRoleGrantPermission).await,
            Method::RoleRevokePermission => {
                auth::change_as_asked(self, bytes, Operation::AuthRoleRevokePermission).await
            }
        }?;
        Ok(Reply::Message(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every call becomes a task, moved into place as a whole: what it holds at its largest is paid by each.
    #[test]
    fn a_calls_future_stays_small() {
        fn bytes<A, B, C, F: Future>(_: impl FnOnce(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let info: &'static ConnectionInfo = Box::leak(Box::default());
        let whole =
            bytes(|surface: &'static Arc<ClientSurface>, request, stopping| answer(surface, info, request, stopping));
        assert!(whole <= 1_024, "{whole} bytes");
    }

    #[test]
    fn paths_that_nobody_serves_get_grpc_gos_words() {
        for (path, text) in [
            ("/foo.Bar/X", "unknown service foo.Bar"),
            ("/etcdserverpb.KV/X", "unknown method X for service etcdserverpb.KV"),
            ("/foo", "malformed method name: \"/foo\""),
            ("/a/b/X", "unknown service a/b"),
        ] {
            assert_eq!(unknown(path), Status::new(Code::Unimplemented, text));
        }
    }
}
