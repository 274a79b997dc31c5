//! Makes checksums right, so that a fuzzer gets to the code behind them. Included by path by the targets.

/// A `u32`, little endian, if it is there.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<usize> {
    bytes.get(offset..offset + 4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize)
}

fn put_u32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

/// `CURRENT` or a checkpoint: magic, version, length, checksum, body.
pub(crate) fn framed_file(bytes: &mut [u8]) {
    if bytes.len() >= 20 {
        let length = (bytes.len() - 20) as u64;
        bytes[8..16].copy_from_slice(&length.to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[20..]);
        put_u32(bytes, 16, sum);
    }
}

/// A segment of the revision log: header, records, perhaps a footer with its trailer.
pub(crate) fn revision_segment(bytes: &mut [u8]) {
    if bytes.len() < 16 {
        return;
    }
    let sum = crc32c::crc32c(&bytes[..12]);
    put_u32(bytes, 12, sum);
    let mut end = bytes.len();
    if let Some(trailer) =
        end.checked_sub(24).filter(|&trailer| trailer >= 16 && bytes[trailer + 16..trailer + 20] == *b"QIDX")
    {
        if let Some(records_end) = u32_at(bytes, trailer).filter(|&records_end| (16..=trailer).contains(&records_end)) {
            let sum = crc32c::crc32c(&bytes[records_end..trailer]);
            put_u32(bytes, trailer + 12, sum);
            put_u32(bytes, trailer + 4, (trailer - records_end) as u32);
            end = records_end;
        }
        let sum = crc32c::crc32c(&bytes[trailer..trailer + 20]);
        put_u32(bytes, trailer + 20, sum);
    }
    let mut offset = 16;
    while let Some(body) = u32_at(bytes, offset + 4).filter(|_| offset + 8 <= end) {
        let next = (offset + 8).saturating_add(body);
        if next > end {
            return;
        }
        let sum = crc32c::crc32c(&bytes[offset + 4..next]);
        put_u32(bytes, offset, sum);
        offset = next;
    }
}

/// A snapshot stream: preamble and frames.
pub(crate) fn snapshot_stream(bytes: &mut [u8]) {
    if bytes.len() < 20 {
        return;
    }
    let total = bytes.len() as u64;
    bytes[8..16].copy_from_slice(&total.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..16]);
    put_u32(bytes, 16, sum);
    let mut offset = 20;
    while let Some(length) = u32_at(bytes, offset + 1) {
        let Some(next) = (offset + 9).checked_add(length).filter(|&next| next <= bytes.len()) else { return };
        if bytes[offset] == 4 && length == 4 {
            let sum = crc32c::crc32c(&bytes[..offset]);
            put_u32(bytes, offset + 9, sum);
        }
        let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[offset..offset + 5]), &bytes[offset + 9..next]);
        put_u32(bytes, offset + 5, sum);
        offset = next;
    }
}

/// The first segment of a write-ahead log: header and frames.
pub(crate) fn log_segment(bytes: &mut [u8]) {
    if bytes.len() < 4_096 {
        return;
    }
    let sum = crc32c::crc32c(&bytes[..60]);
    put_u32(bytes, 60, sum);
    let mut offset = 4_096;
    while bytes.get(offset..offset + 4) == Some(b"QFrm") {
        let Some(length) = u32_at(bytes, offset + 4) else { return };
        let Some(next) = (offset + 32).checked_add(length).filter(|&next| next <= bytes.len()) else { return };
        let sum = crc32c::crc32c(&bytes[offset + 32..next]);
        put_u32(bytes, offset + 24, sum);
        let sum = crc32c::crc32c(&bytes[offset..offset + 28]);
        put_u32(bytes, offset + 28, sum);
        offset = next.next_multiple_of(8);
    }
}
