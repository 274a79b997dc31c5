//! A small file with one body, written as a whole: magic, version, length, checksum, body.
//!
//! Owns that frame and the way such a file is replaced. Does not own what the body means. Invariant: readers see the
//! old file or the new one, and any changed byte is noticed. The frame is the same in every version, so that a file of
//! a later version is told from a broken one.
//!
//! ```text
//! magic 4 bytes | version u32 | body length u64 | crc32c u32 (of magic, version, length and body) | body
//! ```

use crate::disk::{Disk, read_exact_at};
use crate::error::DiskError;
use std::io;

const HEADER_BYTES: usize = 20;

/// What tells one kind of file from another.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) magic: [u8; 4],
    pub(super) version: u32,
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), body)
}

/// The file's bytes.
fn encode(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&kind.magic);
    bytes.extend_from_slice(&kind.version.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&checksum(&bytes, body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The body of a file's bytes.
fn decode(kind: Kind, path: &str, mut bytes: Vec<u8>) -> Result<Vec<u8>, DiskError> {
    if bytes.len() < HEADER_BYTES {
        let what = format!("the end of the file, expected at least {HEADER_BYTES} bytes");
        return Err(DiskError::corrupt(path, bytes.len() as u64, what));
    }
    let body = bytes.split_off(HEADER_BYTES);
    let number = |offset: usize| u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"));
    if bytes[..4] != kind.magic {
        return Err(DiskError::corrupt(
            path,
            0,
            format!("a magic number {:02x?}, expected {:02x?}", &bytes[..4], kind.magic),
        ));
    }
    let length = u64::from(number(8)) | u64::from(number(12)) << 32;
    if length != body.len() as u64 {
        return Err(DiskError::corrupt(path, 8, format!("a body of {} bytes, expected {length}", body.len())));
    }
    let found = checksum(&bytes[..16], &body);
    if found != number(16) {
        return Err(DiskError::corrupt(path, 16, format!("checksum {found:08x}, expected {:08x}", number(16))));
    }
    if number(4) != kind.version {
        return Err(DiskError::Version { path: path.to_string(), found: number(4), supported: kind.version });
    }
    Ok(body)
}

/// Where a file is written before it takes its name.
pub(super) fn aside(name: &str) -> String {
    format!("{name}.new")
}

/// Replaces a file: written aside, synced, renamed, its folder synced.
pub(super) fn replace(disk: &dyn Disk, folder: &str, name: &str, kind: Kind, body: &[u8]) -> Result<(), DiskError> {
    let (path, new) = (format!("{folder}/{name}"), format!("{folder}/{}", aside(name)));
    let write = || {
        let file = disk.create(&new)?;
        file.write_at(&encode(kind, body), 0)?;
        file.sync()
    };
    write().map_err(|error| DiskError::io(&new, error))?;
    disk.rename(&new, &path).map_err(|error| DiskError::io(&path, error))?;
    disk.sync_dir(folder).map_err(|error| DiskError::io(folder, error))
}

/// The body of a file; `None` when there is no such file.
pub(super) fn read(disk: &dyn Disk, path: &str, kind: Kind) -> Result<Option<Vec<u8>>, DiskError> {
    let contents = || {
        let file = disk.open(path)?;
        let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
        read_exact_at(&*file, 0, length)
    };
    match contents() {
        Ok(bytes) => decode(kind, path, bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::io(path, error)),
    }
}
