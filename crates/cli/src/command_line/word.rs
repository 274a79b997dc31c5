//! Words of the command line that need not be UTF-8, as Rust strings.
//!
//! Not here: what words mean. The invariant: `bytes(from_bytes(x)) == x` for every byte string, and a word that is
//! plain UTF-8 is itself.
//!
//! Keys and values are bytes, and a shell passes bytes. A byte that is no UTF-8 becomes a character of a block at the
//! end of Unicode's last private plane; the characters of that block, should anyone ever send them, become the bytes
//! that they consist of.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The character that stands for the byte 0x00; only bytes from 0x80 on ever need one.
const BLOCK_START: u32 = 0x10_ff00;

fn stands_for_byte(character: char) -> Option<u8> {
    u8::try_from(u32::from(character).checked_sub(BLOCK_START)?).ok().filter(|byte| *byte >= 0x80)
}

fn character(byte: u8) -> char {
    char::from_u32(BLOCK_START + u32::from(byte)).expect("the block lies within Unicode")
}

/// The word for a byte string.
pub(crate) fn from_bytes(bytes: &[u8]) -> String {
    let mut word = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for each in chunk.valid().chars() {
            if stands_for_byte(each).is_some() {
                word.extend(each.encode_utf8(&mut [0; 4]).bytes().map(character));
            } else {
                word.push(each);
            }
        }
        word.extend(chunk.invalid().iter().copied().map(character));
    }
    word
}

/// The word for an argument of the process.
pub fn argument(argument: &OsStr) -> String {
    from_bytes(argument.as_bytes())
}

/// The byte string that a word stands for.
pub(crate) fn bytes(word: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    for each in word.chars() {
        match stands_for_byte(each) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(each.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The argument for another process that a word stands for.
pub(crate) fn os_string(word: &str) -> OsString {
    OsString::from_vec(bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngCore, SeedableRng, rngs::StdRng};

    #[test]
    fn bytes_there_and_back() {
        let seed = 0x77;
        let mut random = StdRng::seed_from_u64(seed);
        for round in 0..500 {
            let mut original = vec![0; (random.next_u32() % 12) as usize];
            random.fill_bytes(&mut original);
            assert_eq!(bytes(&from_bytes(&original)), original, "seed {seed} round {round}");
        }
        let reserved = "a\u{10ff80}\u{10ffff}".as_bytes();
        assert_eq!(bytes(&from_bytes(reserved)), reserved);
    }

    #[test]
    fn utf8_is_itself() {
        for plain in ["", "key", "grün €😀", "\u{10ff7f}\u{e000}"] {
            assert_eq!(from_bytes(plain.as_bytes()), plain);
        }
        assert_eq!(argument(OsStr::from_bytes(b"k\xff")).chars().count(), 2);
    }
}
