//! A look at a message's bytes before the decoder sees them.
//!
//! The decoder recurses as deep as its input nests and knows no bound, so that a transaction may nest as deep as etcd
//! allows. This pass bounds the depth with a loop and an explicit stack: what it lets through can't exhaust the thread's
//! stack. Proto3 has no groups; a message that holds any is refused, since skipping nested ones recurses as well.

/// Which fields of a message hold messages in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// None of them.
    Flat,
    /// These field numbers hold flat messages.
    Holds(&'static [u32]),
    /// `TxnRequest`.
    Txn,
    /// `RequestOp`.
    TxnOperation,
}

/// Why a message is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Its bytes are no message.
    Wire,
    /// It nests deeper than any message may.
    TooDeep,
    /// It is a transaction that nests deeper than its bound on operations allows.
    TooManyTxnLevels,
}

/// Messages within messages at the most, the outermost counted (gRPC-Go's bound).
const DEPTH_MAX: usize = 10_000;

/// Walks through the fields of `message` and everything in it that is a message by `shape`. `txn_levels_max` bounds
/// transactions within transactions, the outermost counted.
pub(crate) fn check(message: &[u8], shape: Shape, txn_levels_max: usize) -> Result<(), Malformed> {
    let mut position = 0;
    let mut current = (message.len(), shape);
    let mut outer: Vec<(usize, Shape)> = Vec::new();
    let mut txn_levels = usize::from(shape == Shape::Txn);
    let mut too_many_levels = false;
    loop {
        let (end, shape) = current;
        if position == end {
            txn_levels -= usize::from(shape == Shape::Txn);
            let Some(parent) = outer.pop() else {
                break;
            };
            current = parent;
            continue;
        }
        let tag = varint(message, &mut position, end)?;
        let field = u32::try_from(tag >> 3).map_err(|_| Malformed::Wire)?;
        if field == 0 || field >= 1 << 29 {
            return Err(Malformed::Wire);
        }
        let length = match tag & 7 {
            0 => {
                varint(message, &mut position, end)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(message, &mut position, end)?).map_err(|_| Malformed::Wire)?,
            5 => 4,
            _ => return Err(Malformed::Wire),
        };
        if length > end - position {
            return Err(Malformed::Wire);
        }
        let inner = if tag & 7 == 2 { inner_shape(shape, field) } else { None };
        let Some(inner) = inner else {
            position += length;
            continue;
        };
        outer.push(current);
        if outer.len() >= DEPTH_MAX {
            return Err(Malformed::TooDeep);
        }
        txn_levels += usize::from(inner == Shape::Txn);
        too_many_levels |= txn_levels > txn_levels_max;
        current = (position + length, inner);
    }
    if too_many_levels { Err(Malformed::TooManyTxnLevels) } else { Ok(()) }
}

fn inner_shape(shape: Shape, field: u32) -> Option<Shape> {
    match (shape, field) {
        (Shape::Flat, _) => None,
        (Shape::Holds(fields), _) => fields.contains(&field).then_some(Shape::Flat),
        (Shape::Txn, 1) => Some(Shape::Flat),
        (Shape::Txn, 2 | 3) => Some(Shape::TxnOperation),
        (Shape::TxnOperation, 1..=3) => Some(Shape::Flat),
        (Shape::TxnOperation, 4) => Some(Shape::Txn),
        (Shape::Txn | Shape::TxnOperation, _) => None,
    }
}

fn varint(message: &[u8], position: &mut usize, end: usize) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        if *position >= end {
            return Err(Malformed::Wire);
        }
        let byte = message[*position];
        *position += 1;
        if shift == 63 && byte > 1 {
            return Err(Malformed::Wire);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed::Wire)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use quorate_proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest, request_op::Request};

    /// `levels` transactions, each the only operation of the one around it.
    fn nested(levels: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let wrapped = |tag: u8, inner: &[u8]| {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend_from_slice(inner);
            outer
        };
        for _ in 1..levels {
            bytes = wrapped(0x12, &wrapped(0x22, &bytes));
        }
        bytes
    }

    #[test]
    fn transactions_nest_up_to_their_bound() {
        assert_eq!(check(&nested(1), Shape::Txn, 128), Ok(()));
        assert_eq!(check(&nested(128), Shape::Txn, 128), Ok(()));
        assert_eq!(check(&nested(129), Shape::Txn, 128), Err(Malformed::TooManyTxnLevels));
        assert_eq!(check(&nested(5_000), Shape::Txn, 128), Err(Malformed::TooManyTxnLevels));
        assert_eq!(check(&nested(5_001), Shape::Txn, 128), Err(Malformed::TooDeep));
        assert_eq!(check(&nested(20_000), Shape::Txn, 128), Err(Malformed::TooDeep));
    }

    #[test]
    fn levels_side_by_side_do_not_add_up() {
        let inner = TxnRequest {
            success: vec![RequestOp {
                request: Some(Request::RequestRange(RangeRequest { key: "k".into(), ..Default::default() })),
            }],
            ..Default::default()
        };
        let operation = RequestOp { request: Some(Request::RequestTxn(inner)) };
        let outer = TxnRequest { success: vec![operation; 50], ..Default::default() };
        assert_eq!(check(&outer.encode_to_vec(), Shape::Txn, 2), Ok(()));
        assert_eq!(check(&outer.encode_to_vec(), Shape::Txn, 1), Err(Malformed::TooManyTxnLevels));
    }

    #[test]
    fn groups_and_broken_bytes_are_refused_everywhere() {
        for bytes in [
            &[0x0b][..],      // a group begins
            &[0x0c],          // a group ends
            &[0x0e],          // wire type 6
            &[0x0a],          // length missing
            &[0x0a, 5, 1],    // longer than the message
            &[0x00],          // field 0
            &[0x08],          // varint missing
            &[0x08, 0x80],    // varint cut off
            &[0x0d, 1, 2, 3], // fixed32 cut off
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            assert_eq!(check(bytes, Shape::Flat, 1), Err(Malformed::Wire), "{bytes:?}");
            let mut inside = vec![0x0a, bytes.len() as u8];
            inside.extend_from_slice(bytes);
            assert_eq!(check(&inside, Shape::Holds(&[1]), 1), Err(Malformed::Wire), "{bytes:?} inside");
            assert_eq!(check(&inside, Shape::Flat, 1), Ok(()), "as a byte string it is nobody's business");
        }
        let many_groups = vec![0x0b; 1_000_000];
        assert_eq!(check(&many_groups, Shape::Flat, 1), Err(Malformed::Wire));
    }

    #[test]
    fn every_wire_type_is_skipped() {
        assert_eq!(
            check(&[0x08, 0x96, 0x01, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1d, 1, 2, 3, 4, 0x22, 1, 9], Shape::Flat, 1),
            Ok(())
        );
        assert_eq!(check(&[], Shape::Flat, 1), Ok(()));
    }
}
