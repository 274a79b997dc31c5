//! Unions of key ranges: what a user may read, or write, in one sorted list.
//!
//! Invariant: spans are not empty, rise strictly, and neither overlap nor touch, so that a range lies in the union
//! exactly when it lies in one span, which a binary search finds.

use bytes::Bytes;
use std::collections::BTreeSet;
use std::ops::Bound;

/// The keys of `[start, end)`; without an end, all keys from `start` on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    start: Bytes,
    end: Option<Bytes>,
}

/// A union of ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    spans: Vec<Span>,
}

/// The end of a range on the wire; `None`: it has none.
fn end_of(key: &Bytes, range_end: &Bytes) -> Option<Bytes> {
    match &range_end[..] {
        [] => Some([key, &[0][..]].concat().into()),
        [0] => None,
        _ => Some(range_end.clone()),
    }
}

impl Spans {
    /// The union of ranges as the wire names them: an empty end is one key, a single zero byte all keys from `key` on.
    pub(crate) fn union<'a>(ranges: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Self {
        let mut all: Vec<Span> =
            ranges.map(|(key, range_end)| Span { start: key.clone(), end: end_of(key, range_end) }).collect();
        all.retain(|span| span.end.as_ref().is_none_or(|end| span.start < *end));
        all.sort_by(|left, right| left.start.cmp(&right.start));
        let mut spans: Vec<Span> = Vec::with_capacity(all.len());
        for span in all {
            match spans.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|end| span.start <= *end) => {
                    if let Some(end) = &last.end
                        && span.end.as_ref().is_none_or(|other| other > end)
                    {
                        last.end = span.end;
                    }
                }
                _ => spans.push(span),
            }
        }
        Self { spans }
    }

    /// The only span that can hold a key.
    fn around(&self, key: &[u8]) -> Option<&Span> {
        let behind = self.spans.partition_point(|span| span.start[..] <= *key);
        let span = &self.spans[behind.checked_sub(1)?];
        span.end.as_ref().is_none_or(|end| *key < end[..]).then_some(span)
    }

    /// Whether the union holds a range as the wire names it. A range that can hold no key (its end is not above its
    /// start) counts as what lies between the two, ends included.
    pub(crate) fn covers(&self, key: &[u8], range_end: &[u8]) -> bool {
        let Some(span) = self.around(key) else {
            return false;
        };
        match range_end {
            [] => true,
            [0] => span.end.is_none(),
            end if end > key => span.end.as_ref().is_none_or(|last| *end <= last[..]),
            end => span.start[..] < *end,
        }
    }

    /// Whether the union holds every one of these keys. Costs a search for each span that holds any of them, whatever
    /// the number of keys.
    pub(crate) fn covers_all(&self, keys: &BTreeSet<Bytes>) -> bool {
        let mut next = keys.first();
        while let Some(key) = next {
            let Some(span) = self.around(key) else {
                return false;
            };
            let Some(end) = &span.end else {
                return true;
            };
            next = keys.range::<Bytes, _>((Bound::Included(end), Bound::Unbounded)).next();
        }
        true
    }
}
