//! One segment file: a header, records, and once it is sealed its footer.
//!
//! Owns the file's handle and the bytes that were appended but not written. Does not own its place among the others,
//! nor what is alive in it. Invariant: the segment's bytes are `written` bytes of the file, then `frozen`, then
//! `buffer`; only the log's one writer moves bytes from right to left; readers never wait for the file's writes.

use super::record::{Location, Record, decode, u32_at};
use crate::disk::{Disk, DiskFile};
use crate::error::DiskError;
use bytes::Bytes;
use parking_lot::Mutex;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The header's length, and the offset of the first record.
pub(crate) const HEADER_BYTES: u32 = 16;
const MAGIC: [u8; 4] = *b"QSEG";
const FORMAT_VERSION: u32 = 1;
/// A scan may begin at a mark; there is one in as many bytes of records.
const MARK_SPACING_BYTES: u32 = 64 << 10;
const NAME_SUFFIX: &str = ".seg";

/// Where a segment lies.
pub(crate) fn segment_path(folder: &str, id: u32) -> String {
    format!("{folder}/{id:016x}{NAME_SUFFIX}")
}

/// Whether a file of the log's folder is a segment.
pub(crate) fn is_segment_name(name: &str) -> bool {
    name.ends_with(NAME_SUFFIX)
}

fn encode_header(id: u32) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[8..12].copy_from_slice(&id.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Which revisions a segment holds, and where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    records: u64,
    first_main: i64,
    last_main: i64,
    marks: Vec<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    main: i64,
    offset: u32,
}

impl Span {
    /// Counts the next record in.
    pub(crate) fn push(&mut self, main: i64, offset: u32) {
        if self.records == 0 {
            self.first_main = main;
        }
        let last_marked = self.marks.last().map_or(HEADER_BYTES, |mark| mark.offset);
        if offset - last_marked >= MARK_SPACING_BYTES {
            self.marks.push(Mark { main, offset });
        }
        self.records += 1;
        self.last_main = main;
    }

    /// Where to begin looking for the first record at or above `from`; `None` when there is none.
    fn start_of(&self, from: i64) -> Option<u32> {
        if self.records == 0 || self.last_main < from {
            return None;
        }
        if self.first_main >= from {
            return Some(HEADER_BYTES);
        }
        // Records of one revision may lie on both sides of a mark that carries it: only an older mark is safe.
        let older = self.marks.partition_point(|mark| mark.main < from);
        Some(self.marks[..older].last().map_or(HEADER_BYTES, |mark| mark.offset))
    }
}

/// A segment, shared by the writer and all readers.
pub(crate) struct Segment {
    id: u32,
    path: String,
    file: Arc<dyn DiskFile>,
    /// Bytes in the file that belong to the segment. Stored under the lock, read without.
    written: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    span: Span,
    records_end: u32,
    is_sealed: bool,
    /// On its way into the file.
    frozen: Arc<Vec<u8>>,
    /// Appended since.
    buffer: Vec<u8>,
}

impl State {
    fn end(&self, written: u64) -> u64 {
        written + (self.frozen.len() + self.buffer.len()) as u64
    }

    /// Copies what of `[offset, offset + target.len())` lies in memory.
    fn copy(&self, written: u64, offset: u64, target: &mut [u8]) {
        let buffer_start = written + self.frozen.len() as u64;
        for (start, bytes) in [(written, &**self.frozen), (buffer_start, &*self.buffer)] {
            let low = offset.max(start);
            let high = (offset + target.len() as u64).min(start + bytes.len() as u64);
            if low < high {
                target[(low - offset) as usize..(high - offset) as usize]
                    .copy_from_slice(&bytes[(low - start) as usize..(high - start) as usize]);
            }
        }
    }
}

impl Segment {
    /// A new segment whose header is in memory.
    pub(crate) fn create(disk: &dyn Disk, folder: &str, id: u32) -> Result<Arc<Self>, DiskError> {
        let path = segment_path(folder, id);
        let file = disk.create(&path).map_err(|error| DiskError::io(&path, error))?;
        let state = State { records_end: HEADER_BYTES, buffer: encode_header(id).to_vec(), ..State::default() };
        Ok(Arc::new(Self { id, path, file, written: AtomicU64::new(0), state: Mutex::new(state) }))
    }

    /// An existing file of which at most `length` bytes belong to the segment: what follows is cut off. The header is
    /// verified; the caller tells what the records are by `set_records`.
    pub(crate) fn open(disk: &dyn Disk, folder: &str, id: u32, length: u64) -> Result<Arc<Self>, DiskError> {
        let path = segment_path(folder, id);
        let file = disk.open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                DiskError::corrupt(&path, 0, "the checkpoint names this file, and it is not there")
            }
            _ => DiskError::io(&path, error),
        })?;
        let mut file_length = file.len().map_err(|error| DiskError::io(&path, error))?;
        if file_length > length {
            file.set_len(length).map_err(|error| DiskError::io(&path, error))?;
            file_length = length;
        }
        let state = State { records_end: HEADER_BYTES, ..State::default() };
        let segment = Self { id, path, file, written: AtomicU64::new(file_length), state: Mutex::new(state) };
        segment.check_header()?;
        Ok(Arc::new(segment))
    }

    fn check_header(&self) -> Result<(), DiskError> {
        let header = self.read(0, HEADER_BYTES as usize)?;
        let found = u32_at(&header, 4);
        if header[..4] != MAGIC || crc32c::crc32c(&header[..12]) != u32_at(&header, 12) {
            return Err(self.corrupt(0, "a segment header that is broken"));
        }
        if found != FORMAT_VERSION {
            return Err(DiskError::Version { path: self.path.clone(), found, supported: FORMAT_VERSION });
        }
        if u32_at(&header, 8) != self.id {
            return Err(self.corrupt(8, format!("segment {}, expected {}", u32_at(&header, 8), self.id)));
        }
        Ok(())
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn corrupt(&self, offset: u64, what: impl Into<String>) -> DiskError {
        DiskError::corrupt(&self.path, offset, what)
    }

    fn io(&self, error: io::Error) -> DiskError {
        DiskError::io(&self.path, error)
    }

    /// Where the records end.
    pub(crate) fn records_end(&self) -> u32 {
        self.state.lock().records_end
    }

    /// Bytes of all records.
    pub(crate) fn record_bytes(&self) -> u64 {
        u64::from(self.records_end() - HEADER_BYTES)
    }

    /// Bytes of the segment, those included that are still in memory.
    pub(crate) fn length(&self) -> u64 {
        let state = self.state.lock();
        state.end(self.written.load(Ordering::Acquire))
    }

    /// Bytes of the segment that are in the file.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Bytes of the segment that are not in the file.
    pub(crate) fn buffered(&self) -> usize {
        self.state.lock().buffer.len()
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.state.lock().is_sealed
    }

    /// The part of the segment that holds the records from revision `from` on: its first and last byte's offsets.
    pub(crate) fn records_from(&self, from: i64) -> Option<(u32, u32)> {
        let state = self.state.lock();
        Some((state.span.start_of(from)?, state.records_end))
    }

    /// Reads `length` bytes at `offset`, from the file or from memory.
    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, DiskError> {
        let end = offset + length as u64;
        let mut in_file = length;
        let mut bytes;
        if end <= self.written.load(Ordering::Acquire) {
            bytes = vec![0; length];
        } else {
            let state = self.state.lock();
            let written = self.written.load(Ordering::Acquire);
            let known_end = state.end(written);
            if end > known_end {
                return Err(
                    self.corrupt(known_end, format!("the end of the segment, expected {length} bytes at {offset}"))
                );
            }
            bytes = vec![0; length];
            state.copy(written, offset, &mut bytes);
            in_file = usize::try_from(written.saturating_sub(offset)).map_or(length, |count| count.min(length));
        }
        self.fill_from_file(&mut bytes[..in_file], offset)?;
        Ok(bytes)
    }

    fn fill_from_file(&self, target: &mut [u8], offset: u64) -> Result<(), DiskError> {
        let mut done = 0;
        while done < target.len() {
            let position = offset + done as u64;
            match self.file.read_at(&mut target[done..], position).map_err(|error| self.io(error))? {
                0 => return Err(self.corrupt(position, "the end of the file, expected more bytes")),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Reads and verifies the record at a place that the log gave out.
    pub(crate) fn read_record(&self, location: Location) -> Result<Record, DiskError> {
        let bytes = self.read(location.offset.into(), location.length as usize)?;
        let parts = decode(&bytes).map_err(|what| self.corrupt(location.offset.into(), what))?;
        let key_value = Bytes::from(bytes).slice(parts.payload);
        Ok(Record { revision: parts.revision, deletion: parts.deletion, key_value })
    }

    /// Appends one record of revision `main` to memory; `write` puts its bytes into the buffer and tells their length.
    /// Answers the record's offset. Only the log's writer may call this.
    pub(crate) fn append(&self, main: i64, write: impl FnOnce(&mut Vec<u8>) -> u32) -> (u32, u32) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        assert!(!state.is_sealed, "a sealed segment never changes");
        let offset = state.records_end;
        let length = write(&mut state.buffer);
        state.span.push(main, offset);
        state.records_end = offset.checked_add(length).expect("a segment is shorter than 4 GiB");
        (offset, length)
    }

    /// Writes what is in memory to the file. Only the log's writer may call this.
    pub(crate) fn flush(&self) -> Result<(), DiskError> {
        let data = {
            let mut state = self.state.lock();
            if state.buffer.is_empty() {
                return Ok(());
            }
            state.frozen = Arc::new(mem::take(&mut state.buffer));
            state.frozen.clone()
        };
        let offset = self.written.load(Ordering::Acquire);
        self.file.write_at(&data, offset).map_err(|error| self.io(error))?;
        let mut state = self.state.lock();
        state.frozen = Arc::default();
        self.written.store(offset + data.len() as u64, Ordering::Release);
        if let Ok(mut buffer) = Arc::try_unwrap(data) {
            buffer.clear();
            state.buffer = buffer;
        }
        Ok(())
    }

    /// Writes the footer behind the records: the segment never changes again.
    pub(crate) fn seal(&self, footer: &[u8]) -> Result<(), DiskError> {
        self.flush()?;
        let offset = self.written.load(Ordering::Acquire);
        self.file.write_at(footer, offset).map_err(|error| self.io(error))?;
        self.set_sealed(offset + footer.len() as u64);
        Ok(())
    }

    /// Puts back a footer that was broken, for good.
    pub(crate) fn repair_footer(&self, footer: &[u8], offset: u32) -> Result<(), DiskError> {
        self.file.write_at(footer, offset.into()).map_err(|error| self.io(error))?;
        self.sync()?;
        self.written.store(u64::from(offset) + footer.len() as u64, Ordering::Release);
        Ok(())
    }

    fn set_sealed(&self, length: u64) {
        let mut state = self.state.lock();
        state.is_sealed = true;
        state.buffer = Vec::new();
        state.span.marks.shrink_to_fit();
        self.written.store(length, Ordering::Release);
    }

    /// Tells the records of a segment that was opened.
    pub(crate) fn set_records(&self, span: Span, records_end: u32, is_sealed: bool) {
        let mut state = self.state.lock();
        state.span = span;
        state.records_end = records_end;
        state.is_sealed = is_sealed;
    }

    /// Makes what is in the file durable.
    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        self.file.sync().map_err(|error| self.io(error))
    }
}
