//! One watch, which goes on where it was when the connection breaks.
//!
//! Not here: showing events. The invariant: no event is delivered twice and none is left out, whichever endpoint the
//! watch is at.

use std::time::Duration;

use futures::SinkExt;
use futures::channel::mpsc;
use quorate_proto::etcdserverpb::{self as pb, watch_client::WatchClient, watch_request::RequestUnion};
use quorate_proto::mvccpb::Event;
use tonic::Streaming;

use super::Client;
use crate::ctl::failure::CallError;

/// How many requests of one watch may wait to be sent.
const REQUESTS_WAITING_MAX: usize = 4;
/// How long to wait before a broken watch is made again.
const RESUME_PAUSE: Duration = Duration::from_millis(100);
/// The reason for a watch that begins below the compaction.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// The reason for a watch that the server ended without saying why.
const UNEXPLAINED: &str = "etcdserver: mvcc: required revision is a future revision";

/// What a watch delivers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WatchReply {
    /// None for a watch that was refused at its creation.
    pub(crate) header: Option<pb::ResponseHeader>,
    pub(crate) events: Vec<Event>,
    /// From which revision on events are left, for a watch that begins below it; else zero.
    pub(crate) compact_revision: i64,
    /// Why the server ended the watch; None while it goes on.
    pub(crate) ended: Option<String>,
}

impl WatchReply {
    /// Whether it only says up to which revision everything has been delivered.
    pub(crate) fn is_progress(&self) -> bool {
        self.events.is_empty() && self.ended.is_none()
    }
}

type Stream = (mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>);

/// A watch of one range.
pub(crate) struct Watch {
    client: Client,
    /// As it would have to be created at this moment: it begins behind the last event that was delivered.
    create: pb::WatchCreateRequest,
    stream: Option<Stream>,
}

impl Watch {
    /// Will watch what `create` says; the stream is made when the first reply is waited for.
    pub(crate) fn new(client: Client, create: pb::WatchCreateRequest) -> Self {
        Self { client, create, stream: None }
    }

    /// Waits for the next reply. The one in which [`WatchReply::ended`] is set is the last.
    ///
    /// This may be dropped at any time: no reply is lost by it.
    pub(crate) async fn next(&mut self) -> WatchReply {
        loop {
            if self.stream.is_none() {
                match self.open().await {
                    Ok(stream) => self.stream = Some(stream),
                    Err(error) => match self.recover(error).await {
                        Ok(()) => continue,
                        Err(error) => return WatchReply { ended: Some(error.to_string()), ..WatchReply::default() },
                    },
                }
            }
            let (_, replies) = self.stream.as_mut().expect("opened above");
            match replies.message().await {
                Ok(Some(reply)) => {
                    if let Some(reply) = self.read(reply) {
                        return reply;
                    }
                }
                Ok(None) => self.stream = None,
                Err(status) => {
                    self.stream = None;
                    let error = self.client.judge(&status);
                    if error.code == tonic::Code::Unavailable {
                        self.client.leave_endpoint();
                    }
                    if let Err(error) = self.recover(error).await {
                        return WatchReply { ended: Some(error.to_string()), ..WatchReply::default() };
                    }
                }
            }
        }
    }

    /// Gets ready to make the watch again, if another attempt may fare better.
    async fn recover(&mut self, error: CallError) -> Result<(), CallError> {
        if error.code != tonic::Code::Unavailable {
            self.client.renew_token(error).await?;
        }
        tokio::time::sleep(RESUME_PAUSE).await;
        Ok(())
    }

    /// Asks the server to say how far the watch is; the answer comes as a reply without events.
    pub(crate) async fn ask_progress(&mut self) {
        if let Some((requests, _)) = &mut self.stream {
            let request_union = Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
            // A stream that has ended is noticed, and made again, by `next`.
            let _ = requests.send(pb::WatchRequest { request_union }).await;
        }
    }

    async fn open(&mut self) -> Result<Stream, CallError> {
        let (mut requests, outgoing) = mpsc::channel(REQUESTS_WAITING_MAX);
        let request_union = Some(RequestUnion::CreateRequest(self.create.clone()));
        requests.send(pb::WatchRequest { request_union }).await.expect("the receiver is held here");
        let channel = self.client.connection(None).await?;
        let outgoing = self.client.stream_request(outgoing);
        let receive_bytes_max = self.client.settings().receive_bytes_max;
        let replies = WatchClient::new(channel).max_decoding_message_size(receive_bytes_max).watch(outgoing).await;
        match replies {
            Ok(replies) => Ok((requests, replies.into_inner())),
            Err(status) => Err(self.client.judge(&status)),
        }
    }

    fn read(&mut self, reply: pb::WatchResponse) -> Option<WatchReply> {
        let revision = reply.header.as_ref().map_or(0, |header| header.revision);
        if reply.canceled {
            let ended = match (reply.compact_revision, reply.cancel_reason.as_str()) {
                (0, "") => UNEXPLAINED.to_owned(),
                (0, reason) => reason.to_owned(),
                _ => COMPACTED.to_owned(),
            };
            // A watch that was never made has no place in the history of the cluster.
            let header = reply.header.filter(|_| reply.compact_revision != 0 || !reply.created);
            let compact_revision = reply.compact_revision;
            return Some(WatchReply { header, events: Vec::new(), compact_revision, ended: Some(ended) });
        }
        if reply.created {
            if self.create.start_revision == 0 {
                self.create.start_revision = revision + 1;
            }
            return None;
        }
        if let Some(last) = reply.events.last().and_then(|event| event.kv.as_ref()) {
            self.create.start_revision = last.mod_revision + 1;
        } else {
            self.create.start_revision = self.create.start_revision.max(revision + 1);
        }
        Some(WatchReply { header: reply.header, events: reply.events, compact_revision: 0, ended: None })
    }
}
