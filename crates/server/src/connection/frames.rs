//! HTTP/2 frames as they pass by, for [`super::guard`]: where each begins and what its head says.
//!
//! Keeps nothing of a frame but what is left of it.

/// Bytes of a frame's head.
pub(super) const HEAD_BYTES: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;

/// In DATA and HEADERS: the sender's last frame of the stream.
pub(super) const END_STREAM: u8 = 0x1;
/// In PING: the answer to one.
pub(super) const ACK: u8 = 0x1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn read(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, stream @ ..] = *bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Follows frames that are sent: each head is told when it is complete.
#[derive(Default)]
pub(super) struct Follower {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Bytes of the current frame's content that are to come.
    left: usize,
}

impl Follower {
    /// Whether the last frame is complete.
    pub(super) fn is_between_frames(&self) -> bool {
        self.head_bytes == 0 && self.left == 0
    }

    pub(super) fn follow(&mut self, mut bytes: &[u8], mut on_head: impl FnMut(Head)) {
        while !bytes.is_empty() {
            let content = self.left.min(bytes.len());
            self.left -= content;
            bytes = &bytes[content..];
            let taken = bytes.len().min(HEAD_BYTES - self.head_bytes);
            self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.head_bytes += taken;
            bytes = &bytes[taken..];
            if self.head_bytes == HEAD_BYTES {
                let head = Head::read(&self.head);
                on_head(head);
                (self.head_bytes, self.left) = (0, head.length);
            }
        }
    }
}

/// Makes an authority of a URL that stands where an authority belongs, in the content of a HEADERS frame: `http://host`
/// becomes `httpx--host`. Old clients of etcd send it, and the HTTP/2 library refuses it. Neither the length of the text
/// changes nor, should it be Huffman-coded, that of its code: what follows stays where it is, and both sides' tables of
/// header fields stay alike.
pub(super) fn mend_authority(head: Head, content: &mut [u8]) {
    let mut from = 0;
    let mut end = content.len();
    if head.has(PADDED) {
        let Some(&padding) = content.first() else { return };
        from = 1;
        end = end.saturating_sub(padding as usize);
    }
    if head.has(PRIORITY) {
        from += 5;
    }
    if let Some(block) = content.get_mut(from..end) {
        mend_block(block);
    }
}

/// `:authority` in HPACK's static table.
const AUTHORITY: usize = 1;

/// Walks through HPACK's representations to the authority; a block that is none is left as it is.
fn mend_block(block: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while at < block.len() {
        let first = block[at];
        let (prefix_bits, is_literal) = match first {
            0x80.. => (7, false),
            0x40..0x80 => (6, true),
            0x20..0x40 => (5, false),
            _ => (4, true),
        };
        let name = integer(block, &mut at, prefix_bits)?;
        if !is_literal {
            continue;
        }
        if name == 0 {
            let length = integer(block, &mut at, 7)?;
            at = at.checked_add(length)?;
        }
        let is_huffman = block.get(at)? & 0x80 != 0;
        let length = integer(block, &mut at, 7)?;
        let value = block.get_mut(at..at.checked_add(length)?)?;
        if name == AUTHORITY {
            if is_huffman {
                mend_huffman(value)
            } else {
                mend_plain(value)
            }
            return Some(());
        }
        at += length;
    }
    Some(())
}

/// HPACK's integer with a prefix of so many bits.
fn integer(block: &[u8], at: &mut usize, prefix_bits: u32) -> Option<usize> {
    let largest = (1 << prefix_bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & largest;
    *at += 1;
    if value < largest {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn mend_plain(value: &mut [u8]) {
    for scheme in [&b"http"[..], b"https"] {
        if value.starts_with(scheme) && value[scheme.len()..].starts_with(b"://") {
            value[scheme.len()..scheme.len() + 3].copy_from_slice(b"x--");
        }
    }
}

/// A code of HPACK's Huffman table, or several behind each other: bits, and how many.
type Code = (u64, u32);

const H: Code = (0b10_0111, 6);
const T: Code = (0b01001, 5);
const P: Code = (0b10_1011, 6);
const S: Code = (0b01000, 5);
const HTTP: Code = joined(joined(H, T), joined(T, P));
const COLON: Code = (0b101_1100, 7);
const SLASH: Code = (0b01_1000, 6);
const COLON_SLASHES: Code = joined(COLON, joined(SLASH, SLASH));
const X: Code = (0b111_1001, 7);
const DASH: Code = (0b01_0110, 6);
const X_DASHES: Code = joined(X, joined(DASH, DASH));

const fn joined((left, left_bits): Code, (right, right_bits): Code) -> Code {
    (left << right_bits | right, left_bits + right_bits)
}

fn mend_huffman(value: &mut [u8]) {
    let Some(first) = value.first_chunk_mut::<6>() else { return };
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(first);
    let mut bits = u64::from_be_bytes(bytes);
    for scheme in [HTTP, joined(HTTP, S)] {
        let (url, length) = joined(scheme, COLON_SLASHES);
        if bits >> (64 - length) == url {
            let (mended, _) = joined(scheme, X_DASHES);
            bits ^= (url ^ mended) << (64 - length);
        }
    }
    first.copy_from_slice(&bits.to_be_bytes()[..6]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = (content.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn heads_are_found_in_whatever_pieces_they_pass() {
        let wire = [head(HEADERS, 4, 1, b"abc"), head(DATA, 1, 1, b""), head(PING, 0, 0, &[0; 8])].concat();
        for size in 1..=wire.len() {
            let mut follower = Follower::default();
            let mut seen = Vec::new();
            for piece in wire.chunks(size) {
                follower.follow(piece, |head| seen.push((head.kind, head.flags, head.stream, head.length)));
            }
            assert_eq!(seen, [(HEADERS, 4, 1, 3), (DATA, 1, 1, 0), (PING, 0, 0, 8)], "{size} bytes at a time");
            assert!(follower.is_between_frames());
            follower.follow(&wire[..5], |_| {});
            assert!(!follower.is_between_frames());
        }
    }

    fn mended(flags: u8, mut content: Vec<u8>) -> Vec<u8> {
        let length = content.len();
        mend_authority(Head { length, kind: HEADERS, flags, stream: 1 }, &mut content);
        content
    }

    #[test]
    fn a_url_becomes_an_authority_of_its_length() {
        for (url, authority) in [
            (&b"http://127.0.0.1:2379"[..], &b"httpx--127.0.0.1:2379"[..]),
            (b"https://a", b"httpsx--a"),
            (b"127.0.0.1:2379", b"127.0.0.1:2379"),
            (b"http", b"http"),
            (b"", b""),
        ] {
            let literal = |text: &[u8]| {
                // An indexed field, a literal with a name of its own, then the authority.
                let mut block = vec![0x83, 0x40, 1, b'a', 1, b'b', 0x41, text.len() as u8];
                block.extend_from_slice(text);
                block.extend_from_slice(&[0x82, 0x0f, 3, 2, b'x', b'y']);
                block
            };
            assert_eq!(mended(0, literal(url)), literal(authority), "{}", url.escape_ascii());
            let padded = |text| [vec![2, 0, 0, 0, 0, 0], literal(text), vec![0, 0]].concat();
            assert_eq!(mended(PADDED | PRIORITY, padded(url)), padded(authority));
        }
    }

    #[test]
    fn a_huffman_coded_url_becomes_one_of_its_bits() {
        // `http://a` and `https://a` with the padding of ones, and what they become.
        let code = |parts: &[Code]| {
            let (bits, length) = parts.iter().copied().fold((0, 0), joined);
            let padding = length.next_multiple_of(8) - length;
            let bits = bits << padding | ((1 << padding) - 1);
            bits.to_be_bytes()[8 - (length + padding) as usize / 8..].to_vec()
        };
        let a = (0b00011, 5);
        for scheme in [vec![HTTP], vec![HTTP, S]] {
            let block = |middle| {
                let value = code(&[scheme.clone(), vec![middle, a]].concat());
                [vec![0x41, 0x80 | value.len() as u8], value, vec![0x83]].concat()
            };
            assert_eq!(mended(0, block(COLON_SLASHES)), block(X_DASHES));
            assert_eq!(mended(0, block(X_DASHES)), block(X_DASHES));
        }
    }

    #[test]
    fn broken_blocks_are_left_alone() {
        for block in [
            &[0x41][..],
            &[0x41, 0x7f],
            &[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x41, 5, b'h'],
            &[0xff; 9],
            &[0x40],
        ] {
            assert_eq!(mended(0, block.to_vec()), block);
            assert_eq!(mended(PADDED, block.to_vec()), block);
            assert_eq!(mended(PADDED | PRIORITY, block.to_vec()), block);
        }
        assert_eq!(mended(PADDED, Vec::new()), [0u8; 0]);
    }
}
