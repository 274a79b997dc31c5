//! A snapshot's way between two members: the raft message, the store's stream in pieces, an empty frame, and back one
//! byte when all of it is durable.

use super::SNAPSHOT_PATH;
use super::dial::{DialError, Route, dial};
use super::frame::{FrameError, FrameReader, frame, frame_message};
use super::transport::Transport;
use crate::config::Address;
use crate::threads::apply::ApplyTask;
use crate::tls::{Stream, TlsDialer};
use bytes::Bytes;
use prost::Message;
use quorate_node::api::Input;
use quorate_proto::quoratepb::RaftMessage;
use quorate_store::error::DiskError;
use quorate_store::home::SnapshotSource;
use quorate_store::store::BuiltSnapshot;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Longest wait for one piece, either way.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the receiver to make everything durable.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pieces read ahead of the disk or the network at the most.
const PIECES_AHEAD_MAX: usize = 4;
/// What the receiver says in the end.
const DELIVERED: u8 = 1;

#[derive(Debug, Error)]
pub(crate) enum SnapshotError {
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Disk(#[from] DiskError),
    #[error("{0}")]
    Protocol(&'static str),
    #[error("the other side is too slow")]
    TooSlow(#[from] tokio::time::error::Elapsed),
}

/// Sends a snapshot; answers how many bytes it had.
pub(crate) async fn send(
    addresses: &[Address],
    route: &Route,
    dialer: &TlsDialer,
    message: &RaftMessage,
    built: Arc<BuiltSnapshot>,
) -> Result<u64, SnapshotError> {
    let mut stream = dial(addresses, SNAPSHOT_PATH, route, dialer).await?;
    stream.write_all(&frame_message(message)).await?;
    let (pieces, mut read) = mpsc::channel::<Result<Bytes, DiskError>>(PIECES_AHEAD_MAX);
    // Reading the disk is not for the network thread.
    tokio::task::spawn_blocking(move || {
        let mut source = match built.source() {
            Ok(source) => source,
            Err(error) => {
                let _ = pieces.blocking_send(Err(error));
                return;
            }
        };
        while let Some(piece) = next_piece(&mut source) {
            if pieces.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    let mut bytes = 0;
    while let Some(piece) = read.recv().await {
        let piece = piece?;
        bytes += piece.len() as u64;
        timeout(PIECE_TIMEOUT, stream.write_all(&frame(&piece))).await??;
    }
    stream.write_all(&frame(&[])).await?;
    timeout(PIECE_TIMEOUT, stream.flush()).await??;
    match timeout(DURABLE_TIMEOUT, stream.read_u8()).await?? {
        DELIVERED => Ok(bytes),
        _ => Err(SnapshotError::Protocol("an unknown answer")),
    }
}

fn next_piece(source: &mut SnapshotSource) -> Option<Result<Bytes, DiskError>> {
    loop {
        match source.next() {
            // An empty frame would end the stream.
            Ok(Some(piece)) if piece.is_empty() => {}
            Ok(piece) => return piece.map(Ok),
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Takes a snapshot, and tells the node when it is whole and durable.
pub(crate) async fn receive(mut stream: Stream, frames: FrameReader, from: u64, transport: &Transport) {
    let Some(link) = transport.link(from) else { return };
    let transfer = link.counters().snapshots_received.begin();
    match receive_whole(&mut stream, frames, from, transport).await {
        Ok(message) => {
            transport.config().metrics.snapshot_saved_seconds.observe(transfer.succeeded().as_secs_f64());
            tracing::info!("remote-peer-id" = format!("{from:x}"), "received and saved database snapshot");
            transport.config().mailbox.post(Input::SnapshotArrived { message });
            // The sender asks again if it does not hear this.
            if stream.write_u8(DELIVERED).await.is_ok() {
                let _ = stream.flush().await;
            }
        }
        Err(error) => tracing::warn!(
            "remote-peer-id" = format!("{from:x}"),
            error = error.to_string(),
            "gave up receiving a snapshot"
        ),
    }
}

async fn receive_whole(
    stream: &mut Stream,
    mut frames: FrameReader,
    from: u64,
    transport: &Transport,
) -> Result<RaftMessage, SnapshotError> {
    let config = transport.config();
    let ended = SnapshotError::Protocol("the stream ended early");
    let Some(first) = timeout(PIECE_TIMEOUT, frames.next(stream)).await?? else { return Err(ended) };
    let message = RaftMessage::decode(first).map_err(FrameError::from)?;
    let Some(index) = message.snapshot.as_ref().map(|snapshot| snapshot.index) else {
        return Err(SnapshotError::Protocol("no snapshot in its message"));
    };
    if message.from != from || message.to != config.member_id {
        return Err(SnapshotError::Protocol("a message between others"));
    }
    let Some(receiving) = config.snapshots.begin_receiving() else {
        return Err(SnapshotError::Protocol("another snapshot is arriving"));
    };
    let (answer, sink) = oneshot::channel();
    config.apply.try_send(ApplyTask::Receive(answer)).map_err(|_| SnapshotError::Protocol("the store is busy"))?;
    let mut sink = sink.await.map_err(|_| SnapshotError::Protocol("the store is stopping"))??;
    let (pieces, mut arrived) = mpsc::channel::<Bytes>(PIECES_AHEAD_MAX);
    let metrics = config.metrics.clone();
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(piece) = arrived.blocking_recv() {
            if piece.is_empty() {
                let started = Instant::now();
                let received = sink.finish();
                metrics.snapshot_synced_seconds.observe(started.elapsed().as_secs_f64());
                return received.map(Some);
            }
            sink.write(&piece)?;
        }
        Ok(None)
    });
    loop {
        let Some(piece) = timeout(PIECE_TIMEOUT, frames.next(stream)).await?? else { return Err(ended) };
        let is_last = piece.is_empty();
        if pieces.send(piece).await.is_err() || is_last {
            break;
        }
    }
    drop(pieces);
    let received = writing.await.map_err(io::Error::from)??.ok_or(ended)?;
    if received.checkpoint.applied_index != index {
        return Err(SnapshotError::Protocol("another position than its message says"));
    }
    config.snapshots.keep_arrived(received);
    drop(receiving);
    Ok(message)
}
