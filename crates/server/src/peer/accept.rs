//! The peer port: a little HTTP for tools, and connections that other members upgrade for frames.

use super::frame::{FrameError, FrameReader};
use super::link::Link;
use super::transport::Transport;
use super::{
    CLUSTER_HEADER, ETCD_CLUSTER_HEADER, FROM_HEADER, PROTOCOL, SNAPSHOT_PATH, STREAM_PATH, TO_HEADER, URLS_HEADER,
    VERSION_HEADER, dial, snapshot,
};
use crate::http::version_text;
use crate::listen::Listener;
use crate::membership::REMOVED;
use crate::tls::Stream;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prost::Message;
use quorate_proto::quoratepb::{PeerMessage, peer_message};
use quorate_store::reader::StoreReader;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Connections to the peer port at the most.
const CONNECTIONS_MAX: usize = 256;
/// Longest wait for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a message is offered again to a node that has too much to do.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// Pause after a failed accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves a peer listener. Runs until it is aborted.
pub(crate) async fn serve(listener: Listener, transport: Transport, reader: StoreReader) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Those that shake hands are bounded by themselves: whoever is slow at that takes nobody's room.
        let held = match listener.security.is_plain() {
            true => Some(room.clone().acquire_owned().await.expect("the semaphore is never closed")),
            false => None,
        };
        let (connection, remote) = match listener.socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = error.to_string(), "cannot accept a connection on the peer port");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if dial::settle(&connection).is_err() {
            continue;
        }
        let (transport, reader) = (transport.clone(), reader.clone());
        let (security, room) = (listener.security.clone(), room.clone());
        tokio::spawn(async move {
            let Some(accepted) = security.accept(connection, remote).await else { return };
            let Some(permit) = held.or_else(|| room.try_acquire_owned().ok()) else { return };
            let service = service_fn(|request| {
                let response = answer(request, &transport, &reader);
                async move { Ok::<_, Infallible>(response) }
            });
            // A client's broken request is its own matter.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(accepted.stream), service)
                .with_upgrades()
                .await;
            drop(permit);
        });
    }
}

type Answer = Response<Full<Bytes>>;

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

fn json(body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn answer(request: Request<Incoming>, transport: &Transport, reader: &StoreReader) -> Answer {
    let mut answer = answer_to(request, transport, reader);
    let cluster_id = format!("{:x}", transport.config().cluster_id);
    let cluster_id = http::HeaderValue::try_from(cluster_id).expect("hex digits");
    answer.headers_mut().insert(ETCD_CLUSTER_HEADER, cluster_id);
    answer.headers_mut().insert(VERSION_HEADER, http::HeaderValue::from_static(crate::version::QUORATE));
    answer
}

fn answer_to(request: Request<Incoming>, transport: &Transport, reader: &StoreReader) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/members") => json(members_json(reader)),
        (&Method::GET | &Method::HEAD, "/version") => json(version_text(&reader.cluster_version())),
        (_, "/members" | "/version") => text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n"),
        (&Method::POST, STREAM_PATH) => upgrade(request, transport, reader, Purpose::Messages),
        (&Method::POST, SNAPSHOT_PATH) => upgrade(request, transport, reader, Purpose::Snapshot),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// `/members`, as etcd's peer port writes it.
fn members_json(reader: &StoreReader) -> String {
    let members: Vec<String> = reader
        .members()
        .iter()
        .map(|member| {
            let list = |urls: &[String]| serde_json::Value::from(urls.to_vec()).to_string();
            let mut fields =
                vec![format!("\"id\":{}", member.id), format!("\"peerURLs\":{}", list(&member.peer_ur_ls))];
            if member.is_learner {
                fields.push("\"isLearner\":true".to_owned());
            }
            if !member.name.is_empty() {
                fields.push(format!("\"name\":{}", serde_json::Value::from(member.name.as_str())));
            }
            if !member.client_ur_ls.is_empty() {
                fields.push(format!("\"clientURLs\":{}", list(&member.client_ur_ls)));
            }
            format!("{{{}}}", fields.join(","))
        })
        .collect();
    format!("[{}]\n", members.join(","))
}

#[derive(Clone, Copy)]
enum Purpose {
    Messages,
    Snapshot,
}

fn upgrade(mut request: Request<Incoming>, transport: &Transport, reader: &StoreReader, purpose: Purpose) -> Answer {
    let from = match check(request.headers(), transport, reader) {
        Ok(from) => from,
        Err(REMOVED) => return text(StatusCode::GONE, format!("{REMOVED}\n")),
        Err(reason) => return text(StatusCode::PRECONDITION_FAILED, format!("{reason}\n")),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let transport_of_task = transport.clone();
    let config = transport.config();
    let runtime = match purpose {
        Purpose::Messages => &config.runtime,
        Purpose::Snapshot => &config.bulk_runtime,
    };
    let task = runtime.spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Stream>>() else { return };
        let stream = parts.io.into_inner();
        let frames = FrameReader::new(&parts.read_buf, transport_of_task.config().frame_bytes_max);
        match purpose {
            Purpose::Messages => receive_messages(stream, frames, from, &transport_of_task).await,
            Purpose::Snapshot => snapshot::receive(stream, frames, from, &transport_of_task).await,
        }
    });
    if let Purpose::Messages = purpose {
        transport.replace_receiving(from, task.abort_handle());
    }
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, Bytes::new());
    response.headers_mut().insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, http::HeaderValue::from_static(PROTOCOL));
    response
}

/// Who sends, if everything about it is right.
fn check(headers: &http::HeaderMap, transport: &Transport, reader: &StoreReader) -> Result<u64, &'static str> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let id = |name: &str| header(name).and_then(|text| u64::from_str_radix(text, 16).ok());
    if header("upgrade") != Some(PROTOCOL) {
        return Err("incompatible version");
    }
    let (Some(cluster), Some(from), Some(to)) = (id(CLUSTER_HEADER), id(FROM_HEADER), id(TO_HEADER)) else {
        return Err("incompatible version");
    };
    if cluster != transport.config().cluster_id {
        return Err("cluster ID mismatch");
    }
    if reader.is_removed(from) {
        return Err(REMOVED);
    }
    if to != transport.config().member_id {
        return Err("member ID mismatch");
    }
    if transport.link(from).is_none() && !transport.add_remote(from, header(URLS_HEADER).unwrap_or("")) {
        return Err("the sender is not a member of the cluster");
    }
    Ok(from)
}

async fn receive_messages(mut stream: Stream, mut frames: FrameReader, from: u64, transport: &Transport) {
    let Some(link) = transport.link(from) else { return };
    link.incoming_opened();
    match receive_until_end(&mut stream, &mut frames, from, transport, &link).await {
        Ok(()) | Err(FrameError::Io(_)) => {}
        Err(error) => {
            link.counters().received_failures.increment();
            tracing::warn!(
                "remote-peer-id" = format!("{from:x}"),
                error = error.to_string(),
                "closed a peer's connection: it sent garbage"
            );
        }
    }
    drop(stream);
    link.incoming_lost();
}

async fn receive_until_end(
    stream: &mut Stream,
    frames: &mut FrameReader,
    from: u64,
    transport: &Transport,
    link: &Link,
) -> Result<(), FrameError> {
    while let Some(payload) = frames.next(stream).await? {
        let bytes = payload.len();
        link.counters().received_bytes.add(bytes as u64);
        let message = PeerMessage::decode(payload)?;
        if let Some(peer_message::Kind::Probe(probe)) = message.kind {
            link.probed(probe);
            continue;
        }
        let mailbox = &transport.config().mailbox;
        // Not reading on is what slows the sender down.
        while !mailbox.has_room_for_peer(bytes) {
            tokio::time::sleep(FULL_PAUSE).await;
        }
        mailbox.post_peer(from, message, bytes);
    }
    Ok(())
}
