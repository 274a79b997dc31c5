//! Frames between members: length, checksum, bytes. Length first checked, then room made, so that garbage costs nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes before each frame's own: u32 length, u32 CRC-32C, both big-endian.
pub(crate) const HEADER_BYTES: usize = 8;
/// Room made at a time while a frame arrives, bytes.
const READ_BYTES: usize = 64 << 10;

/// Why a connection is closed.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    /// The connection broke or ended inside a frame.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Longer than any frame may be.
    #[error("a frame of {length} bytes; at most {length_max} are allowed")]
    TooLong {
        /// What its header says.
        length: usize,
        /// The bound.
        length_max: usize,
    },
    /// Not the bytes that were sent.
    #[error("a frame with a wrong checksum")]
    Checksum,
    /// Not a message.
    #[error("a frame that is no message: {0}")]
    Message(#[from] prost::DecodeError),
}

/// A payload with its header.
pub(crate) fn frame(payload: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    framed.put_u32(u32::try_from(payload.len()).expect("frames are bounded far below 4 GiB"));
    framed.put_u32(crc32c::crc32c(payload));
    framed.put_slice(payload);
    framed.freeze()
}

/// A message with its header, encoded once.
pub(crate) fn frame_message(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(HEADER_BYTES + length);
    framed.put_u32(u32::try_from(length).expect("messages are bounded far below 4 GiB"));
    framed.put_u32(0);
    message.encode_raw(&mut framed);
    let checksum = crc32c::crc32c(&framed[HEADER_BYTES..]);
    framed[4..HEADER_BYTES].copy_from_slice(&checksum.to_be_bytes());
    framed.freeze()
}

/// Cuts arriving bytes into frames.
pub(crate) struct FrameReader {
    buffer: BytesMut,
    length_max: usize,
}

impl FrameReader {
    /// `begun`: what was read from the connection already.
    pub(crate) fn new(begun: &[u8], length_max: usize) -> Self {
        Self { buffer: BytesMut::from(begun), length_max }
    }

    /// The next frame's payload; `None` when the connection ended between frames. Cancel-safe.
    pub(crate) async fn next(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(payload) = self.cut()? {
                return Ok(Some(payload));
            }
            self.buffer.reserve(READ_BYTES);
            if from.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
                };
            }
        }
    }

    fn cut(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let mut header = &header[..];
        let length = header.get_u32() as usize;
        let checksum = header.get_u32();
        if length > self.length_max {
            return Err(FrameError::TooLong { length, length_max: self.length_max });
        }
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        // A copy: what is decoded from it lives as long as the log's entries do, and must not hold the read buffer alive.
        let payload = Bytes::copy_from_slice(&self.buffer[..length]);
        self.buffer.advance(length);
        if crc32c::crc32c(&payload) == checksum { Ok(Some(payload)) } else { Err(FrameError::Checksum) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::quoratepb::{PeerMessage, RaftMessage, peer_message};
    use tokio::io::AsyncWriteExt;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
    }

    async fn read_all(bytes: &[u8], length_max: usize) -> Result<Vec<Bytes>, FrameError> {
        let mut reader = FrameReader::new(&[], length_max);
        let mut from = bytes;
        let mut frames = Vec::new();
        while let Some(payload) = reader.next(&mut from).await? {
            frames.push(payload);
        }
        Ok(frames)
    }

    #[test]
    fn frames_survive_any_cut() {
        let payloads = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![7; 200_000])];
        let all: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
        for piece in [1, 7, 4096, all.len()] {
            let frames = run(async {
                let (mut sender, mut receiver) = tokio::io::duplex(piece);
                let mut reader = FrameReader::new(&all[..3], 1 << 20);
                let write = async {
                    sender.write_all(&all[3..]).await.expect("write");
                    drop(sender);
                };
                let read = async {
                    let mut frames = Vec::new();
                    while let Some(payload) = reader.next(&mut receiver).await.expect("frame") {
                        frames.push(payload);
                    }
                    frames
                };
                tokio::join!(write, read).1
            });
            assert_eq!(frames, payloads, "pieces of {piece}");
        }
    }

    #[test]
    fn a_message_is_framed_like_its_bytes() {
        let raft = RaftMessage { from: 1, to: 2, term: 3, ..RaftMessage::default() };
        let message = PeerMessage { kind: Some(peer_message::Kind::Raft(raft)) };
        assert_eq!(frame_message(&message), frame(&prost::Message::encode_to_vec(&message)));
    }

    #[test]
    fn a_changed_byte_is_found() {
        let good = frame(b"payload");
        for at in 4..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert!(matches!(run(read_all(&bad, 1 << 20)), Err(FrameError::Checksum)), "byte {at}");
        }
    }

    #[test]
    fn an_oversized_length_is_refused_before_room_is_made() {
        let mut reader = FrameReader::new(&[], 1000);
        let bytes = [0xff; HEADER_BYTES];
        let result = run(async { reader.next(&mut &bytes[..]).await });
        assert!(matches!(result, Err(FrameError::TooLong { length_max: 1000, .. })));
        assert!(reader.buffer.capacity() <= 2 * READ_BYTES);
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error() {
        let whole = frame(b"payload");
        for length in 1..whole.len() {
            let result = run(read_all(&whole[..length], 1000));
            assert!(matches!(result, Err(FrameError::Io(_))), "cut at {length}");
        }
        assert!(run(read_all(&[], 1000)).expect("a clean end").is_empty());
    }
}
