//! Messages compressed with gzip, the one encoding that etcd's server knows beside none.
//!
//! What a message unpacks to is bounded while it unpacks: a small one that would become a huge one costs its bound.

use crate::grpc::status::{Code, Status};
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use std::io::{ErrorKind, Read};

/// The name in `grpc-encoding`.
pub(crate) const NAME: &str = "gzip";

/// Bytes set aside before it is known how large a message becomes.
const FIRST_BYTES: usize = 4 << 10;

/// Unpacks a message.
pub(crate) fn unpacked(message: &[u8], bytes_max: usize) -> Result<Bytes, Status> {
    let failed = |text: String| Status::new(Code::Internal, text);
    if message.is_empty() {
        return Err(failed("grpc: failed to decompress the message: EOF".to_owned()));
    }
    if !message.starts_with(&[0x1f, 0x8b]) {
        return Err(failed("grpc: failed to decompress the message: gzip: invalid header".to_owned()));
    }
    let mut out = Vec::with_capacity(FIRST_BYTES.min(bytes_max));
    // One byte more tells a message of the bound from a longer one.
    let read = MultiGzDecoder::new(message).take(bytes_max as u64 + 1).read_to_end(&mut out);
    if out.len() > bytes_max {
        return Err(Status::new(
            Code::ResourceExhausted,
            format!("grpc: received message after decompression larger than max {bytes_max}"),
        ));
    }
    match read {
        Ok(_) => Ok(Bytes::from(out)),
        Err(error) => {
            let cause = match error.kind() {
                ErrorKind::UnexpectedEof => "unexpected EOF",
                ErrorKind::InvalidInput if error.to_string().contains("header") => "gzip: invalid header",
                ErrorKind::InvalidInput if error.to_string().contains("checksum") => "gzip: invalid checksum",
                _ => "flate: corrupt input",
            };
            Err(failed(format!("grpc: failed to read decompressed data: {cause}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn packed(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_message_unpacks_to_what_was_packed() {
        for message in [&b""[..], b"abc", &[7; 1000]] {
            assert_eq!(unpacked(&packed(message), 1000).unwrap(), message);
        }
    }

    #[test]
    fn a_bomb_costs_its_bound() {
        let bomb = packed(&vec![0; 50_000_000]);
        assert!(bomb.len() < 100_000);
        let refused = unpacked(&bomb, 1000).unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert_eq!(refused.message, "grpc: received message after decompression larger than max 1000");
    }

    #[test]
    fn broken_messages_are_refused() {
        let whole = packed(b"some words that are packed");
        for cut in 0..whole.len() {
            assert_eq!(unpacked(&whole[..cut], 1000).unwrap_err().code, Code::Internal, "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x55;
            // The header's time and system are nobody's business.
            if let Ok(message) = unpacked(&changed, 1000) {
                assert!((3..10).contains(&at) && message == "some words that are packed", "changed at {at}");
            }
        }
    }
}
