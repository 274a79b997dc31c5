//! The bytes of key-values and events, written by hand where it saves a copy.
//!
//! What is stored of a change is the encoded `mvccpb.KeyValue`, as etcd stores it: answers are put together from stored
//! bytes without decoding them, and HashKV gives etcd's number. Fields are written in the order of their numbers, and
//! fields that are zero or empty are left out.

use bytes::{BufMut, Bytes, BytesMut};

/// Tag of `mvccpb.KeyValue.key`.
const TAG_KEY: u8 = 0x0a;
/// Tag of `RangeResponse.kvs`.
pub(crate) const TAG_RANGE_KVS: u8 = 0x12;

/// Bytes of a varint.
pub(crate) fn varint_length(value: u64) -> usize {
    (((64 - (value | 1).leading_zeros()) as usize) * 9 + 64) / 64
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value > 0x7f {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_int(out: &mut impl BufMut, tag: u8, value: i64) {
    if value != 0 {
        out.put_u8(tag);
        put_varint(out, value as u64);
    }
}

fn put_bytes(out: &mut impl BufMut, tag: u8, value: &[u8]) {
    if !value.is_empty() {
        out.put_u8(tag);
        put_varint(out, value.len() as u64);
        out.put_slice(value);
    }
}

/// The fields of a key-value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyValueParts<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) value: &'a [u8],
    pub(crate) lease: i64,
}

/// Appends an encoded `mvccpb.KeyValue`.
pub(crate) fn put_key_value(out: &mut impl BufMut, parts: KeyValueParts<'_>) {
    put_bytes(out, TAG_KEY, parts.key);
    put_int(out, 0x10, parts.create_revision);
    put_int(out, 0x18, parts.mod_revision);
    put_int(out, 0x20, parts.version);
    put_bytes(out, 0x2a, parts.value);
    put_int(out, 0x30, parts.lease);
}

/// The key of an encoded key-value as this module writes it; empty when there is none.
pub(crate) fn key_of(key_value: &[u8]) -> &[u8] {
    let Some((&TAG_KEY, rest)) = key_value.split_first() else {
        return &[];
    };
    let (mut length, mut shift) = (0usize, 0);
    for (position, &byte) in rest.iter().enumerate().take(5) {
        length |= ((byte & 0x7f) as usize) << shift;
        shift += 7;
        if byte < 0x80 {
            let start = position + 1;
            return rest.get(start..start + length).unwrap_or(&[]);
        }
    }
    &[]
}

/// An encoded `mvccpb.Event`: of a put with the stored key-value, of a deletion with key and revision.
pub(crate) fn event(key_value: &[u8], deletion: Option<i64>, previous: Option<&[u8]>) -> Bytes {
    let mut out = BytesMut::with_capacity(key_value.len() + previous.map_or(0, <[u8]>::len) + 32);
    if let Some(main) = deletion {
        let key = key_of(key_value);
        out.put_slice(&[0x08, 0x01, 0x12]);
        put_varint(&mut out, (1 + varint_length(key.len() as u64) + key.len() + 1 + varint_length(main as u64)) as u64);
        put_bytes(&mut out, TAG_KEY, key);
        put_int(&mut out, 0x18, main);
    } else {
        out.put_u8(0x12);
        put_varint(&mut out, key_value.len() as u64);
        out.put_slice(key_value);
    }
    if let Some(previous) = previous {
        out.put_u8(0x1a);
        put_varint(&mut out, previous.len() as u64);
        out.put_slice(previous);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use quorate_proto::mvccpb::{Event, KeyValue};

    fn check(key: &[u8], value: &[u8], numbers: [i64; 4]) {
        let [create_revision, mod_revision, version, lease] = numbers;
        let mut out = Vec::new();
        put_key_value(&mut out, KeyValueParts { key, create_revision, mod_revision, version, value, lease });
        let decoded = KeyValue::decode(&out[..]).unwrap();
        let want = KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision,
            mod_revision,
            version,
            value: Bytes::copy_from_slice(value),
            lease,
        };
        assert_eq!(decoded, want);
        assert_eq!(out, want.encode_to_vec());
        assert_eq!(key_of(&out), key);
        let put = Event::decode(event(&out, None, Some(&out))).unwrap();
        assert_eq!((put.r#type, put.kv.as_ref(), put.prev_kv.as_ref()), (0, Some(&want), Some(&want)));
        let gone = Event::decode(event(&out, Some(77), None)).unwrap();
        let kv = gone.kv.unwrap();
        assert_eq!((gone.r#type, &kv.key[..], kv.mod_revision, kv.version, gone.prev_kv), (1, key, 77, 0, None));
    }

    #[test]
    fn agrees_with_the_generated_encoder() {
        check(b"k", b"", [2, 2, 1, 0]);
        check(b"a longer key", &[7; 300], [2, 900, 12, 7]);
        check(&[0; 200], b"v", [1 << 40, 1 << 50, i64::MAX, i64::MAX]);
    }

    #[test]
    fn knows_the_length_of_varints() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, (1u64 << shift) | 1] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(varint_length(value), out.len(), "{value}");
            }
        }
    }
}
