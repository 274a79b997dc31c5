//! The bytes of pages.
//!
//! All numbers little-endian. A page is a head of 16 bytes and elements; pages that are too large for one place of the
//! file take the places that follow (`overflow`). docs/formats.md says where the format is described.

/// The size of a page in files that are written here, bytes.
pub const PAGE_BYTES: usize = 4096;
/// Head of a page.
pub(super) const HEAD_BYTES: usize = 16;
/// Element of a branch or leaf page, without its key and value.
pub(super) const ELEMENT_BYTES: usize = 16;
/// The head of a bucket in its parent's value.
pub(super) const BUCKET_BYTES: usize = 16;
/// What a meta page holds behind its head.
pub(super) const META_BYTES: usize = 64;

pub(super) const FLAG_BRANCH: u16 = 0x01;
pub(super) const FLAG_LEAF: u16 = 0x02;
pub(super) const FLAG_META: u16 = 0x04;
pub(super) const FLAG_FREELIST: u16 = 0x10;
/// A leaf element whose value is a bucket.
pub(super) const ELEMENT_IS_BUCKET: u32 = 0x01;

pub(super) const MAGIC: u32 = 0xed0c_daed;
pub(super) const VERSION: u32 = 2;
/// The place of a freelist that is not stored.
pub(super) const NO_FREELIST: u64 = u64::MAX;
/// The count of a freelist that is too long for the head.
pub(super) const COUNT_ELSEWHERE: u16 = 0xffff;

/// Head of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: u64,
    pub(super) flags: u16,
    pub(super) count: u16,
    pub(super) overflow: u32,
}

impl Head {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.overflow.to_le_bytes());
    }

    /// `None`: fewer bytes than a head.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }
}

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_bytes: u32,
    /// Root page of the tree of buckets.
    pub(super) root: u64,
    pub(super) freelist: u64,
    /// Pages of the file.
    pub(super) pages: u64,
    pub(super) transaction: u64,
}

impl Meta {
    /// The whole page.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        Head { id: self.transaction % 2, flags: FLAG_META, count: 0, overflow: 0 }.write(out);
        let body = out.len();
        for number in [MAGIC, VERSION, self.page_bytes, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.root, 0, self.freelist, self.pages, self.transaction] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = fnv_1a(&out[body..]);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.resize(start + PAGE_BYTES, 0);
    }

    /// Reads the meta page that `bytes` begin with; what is wrong with it otherwise.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some(body) = bytes.get(HEAD_BYTES..HEAD_BYTES + META_BYTES) else { return Err("the end of the file") };
        let number = |offset| u32_at(body, offset).unwrap_or_default();
        let long = |offset| u64_at(body, offset).unwrap_or_default();
        if number(0) != MAGIC {
            return Err("no magic number of bbolt");
        }
        if number(4) != VERSION {
            return Err("another version than 2");
        }
        if fnv_1a(&body[..META_BYTES - 8]) != long(META_BYTES - 8) {
            return Err("a checksum that is wrong");
        }
        Ok(Self { page_bytes: number(8), root: long(16), freelist: long(32), pages: long(40), transaction: long(48) })
    }
}

/// FNV-1a of 64 bits.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..offset + 2)?.try_into().expect("two bytes")))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset + 4)?.try_into().expect("four bytes")))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().expect("eight bytes")))
}
