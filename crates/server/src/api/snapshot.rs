//! Maintenance.Snapshot: the store at one moment as etcd's backend file, then its SHA-256.
//!
//! The file is made piece by piece as the caller takes it, on helper threads; the apply thread only says what there is.
//! What a snapshot keeps on the disk is bounded: [`SNAPSHOTS_MAX`] at a time, each given up when its caller takes no
//! piece for [`STALL_MAX`].

use super::{Call, Reply};
use crate::cluster_version;
use crate::grpc::body::Chunk;
use crate::grpc::request::FRAME_HEAD_BYTES;
use crate::grpc::status::{Code, Status};
use bytes::Bytes;
use quorate_backend::export::Export;
use quorate_proto::Message;
use quorate_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use quorate_store::error::DiskError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Snapshots under way at the most.
pub(super) const SNAPSHOTS_MAX: usize = 4;
/// How long a caller may take none of the pieces that wait for it.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Of one message at the most, bytes (etcd's number).
const BLOB_BYTES: usize = 32 << 10;
/// Made at once, bytes.
const PIECE_BYTES: usize = 8 * BLOB_BYTES;
/// Pieces that wait for the caller at the most.
const PIECES_AHEAD_MAX: usize = 2;

/// A piece, and whether the stream is complete with it.
type Piece = (Result<Chunk, Status>, bool);

fn broken(error: &DiskError) -> Status {
    tracing::error!(error = error.to_string(), "cannot read the store for a snapshot");
    Status::new(Code::DataLoss, "etcdserver: corrupt cluster")
}

fn ended_early(error: &tokio::task::JoinError) -> Status {
    Status::new(Code::Internal, format!("quorate: making the snapshot failed: {error}"))
}

pub(super) async fn snapshot(call: &Call, bytes: Bytes) -> Result<Reply, Status> {
    let surface = &call.surface;
    let SnapshotRequest {} = surface.decode(call.method, bytes)?;
    let Ok(permit) = surface.snapshots.clone().try_acquire_owned() else {
        return Err(Status::new(Code::ResourceExhausted, "etcdserver: too many requests"));
    };
    let moment = surface.backend.moment().await?;
    let revision = moment.checkpoint().revision;
    let version = cluster_version::storage(&moment.checkpoint().cluster_version).into();
    let export = tokio::task::spawn_blocking(move || Export::new(&moment)).await;
    let export = export.map_err(|error| ended_early(&error))?.map_err(|error| broken(&error))?;
    tracing::info!("total-bytes" = export.total_bytes(), revision, "sending database snapshot to client");
    let (pieces, taken) = mpsc::channel::<Piece>(PIECES_AHEAD_MAX);
    tokio::spawn(produce(export, version, pieces, permit));
    Ok(Reply::Stream(Box::pin(futures::stream::unfold(Some(taken), |taken| async {
        let mut taken = taken?;
        match taken.recv().await {
            Some((piece, is_last)) => Some((piece, (!is_last).then_some(taken))),
            None => {
                let text = format!("quorate: the snapshot was given up: nothing of it was taken for {STALL_MAX:?}");
                Some((Err(Status::new(Code::Aborted, text)), None))
            }
        }
    }))))
}

/// Makes pieces for as long as they are taken in time.
async fn produce(mut export: Export, version: Arc<str>, pieces: mpsc::Sender<Piece>, permit: OwnedSemaphorePermit) {
    let started = Instant::now();
    let total_bytes = export.total_bytes();
    loop {
        let its_version = version.clone();
        let made = tokio::task::spawn_blocking(move || {
            let piece = export.next(PIECE_BYTES);
            let piece = piece.map(|piece| piece.map(|piece| encode(&piece, export.remaining_bytes(), &its_version)));
            (export, piece)
        });
        let (piece, is_last) = match made.await {
            Err(error) => (Err(ended_early(&error)), true),
            Ok((_, Err(error))) => (Err(broken(&error)), true),
            Ok((going_on, Ok(Some(chunk)))) => {
                export = going_on;
                if !hand_over(&pieces, (Ok(chunk), false), STALL_MAX).await {
                    return;
                }
                continue;
            }
            Ok((complete, Ok(None))) => (Ok(encode(&complete.sum(), 0, &version)), true),
        };
        let is_complete = piece.is_ok();
        if hand_over(&pieces, (piece, is_last), STALL_MAX).await && is_complete {
            let took = format!("{:?}", started.elapsed());
            tracing::info!("total-bytes" = total_bytes, took, "successfully sent database snapshot to client");
        }
        drop(permit);
        return;
    }
}

/// Whether the caller took a piece, or left room for it, in time.
async fn hand_over(pieces: &mpsc::Sender<Piece>, piece: Piece, stall_max: Duration) -> bool {
    match tokio::time::timeout(stall_max, pieces.send(piece)).await {
        Ok(sent) => sent.is_ok(),
        Err(_) => {
            tracing::warn!("a client takes nothing of its snapshot: given up");
            false
        }
    }
}

/// The messages of a piece, behind which `remaining_bytes` follow.
fn encode(piece: &[u8], remaining_bytes: u64, version: &str) -> Chunk {
    let mut out = Vec::with_capacity(piece.len() + piece.len() / BLOB_BYTES * 64 + 64);
    let (mut messages, mut left) = (0, piece.len());
    for blob in piece.chunks(BLOB_BYTES) {
        left -= blob.len();
        let head = out.len();
        out.resize(head + FRAME_HEAD_BYTES, 0);
        let response = SnapshotResponse {
            header: None,
            remaining_bytes: remaining_bytes + left as u64,
            blob: Bytes::copy_from_slice(blob),
            version: version.to_owned(),
        };
        response.encode(&mut out).expect("a vector has room");
        let length = (out.len() - head - FRAME_HEAD_BYTES) as u32;
        out[head + 1..head + FRAME_HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
        messages += 1;
    }
    Chunk { bytes: out.into(), messages }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_becomes_messages_that_count_down() {
        let piece = vec![7; BLOB_BYTES + 5];
        let chunk = encode(&piece, 100, "3.7.0");
        assert_eq!(chunk.messages, 2);
        let mut rest = &chunk.bytes[..];
        let mut seen = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
            let response = SnapshotResponse::decode(&rest[5..5 + length]).unwrap();
            assert_eq!((rest[0], &response.version[..]), (0, "3.7.0"));
            seen.push((response.blob.len(), response.remaining_bytes));
            rest = &rest[5 + length..];
        }
        assert_eq!(seen, [(BLOB_BYTES, 105), (5, 100)]);
    }

    #[tokio::test]
    async fn a_caller_that_takes_nothing_is_given_up() {
        let (pieces, mut taken) = mpsc::channel::<Piece>(1);
        let stall_max = Duration::from_millis(1);
        assert!(hand_over(&pieces, (Ok(encode(b"a", 0, "3.7.0")), false), stall_max).await);
        assert!(
            !hand_over(&pieces, (Ok(encode(b"b", 0, "3.7.0")), false), stall_max).await,
            "the first one still waits"
        );
        drop(pieces);
        assert!(taken.recv().await.is_some());
        assert!(taken.recv().await.is_none());
    }
}
