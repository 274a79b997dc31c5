//! The scripts' notation: words into requests, and answers into lines.
//!
//! Keys: `a` one key, `a..c` from a up to c, `a..` from a on, `a/*` a prefix, `*` all keys; `\x00` a byte, `""` nothing.
//! Transactions: `if COMPARE.. then OP ; OP else OP`, each part optional, a nested one in `( .. )`; a compare is
//! `version(KEY)=1`, with create, mod, lease or value and `=`, `!=`, `<` or `>`.
//!
//! `as NAME COMMAND` is done by a user who has just logged in; without it nobody has.

use bytes::Bytes;
use quorate_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::response_op::Response;
use quorate_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, TxnResponse,
};
use quorate_proto::mvccpb::{Event, KeyValue};
use std::fmt::Write as _;

/// The words of a command that are left to read.
pub(crate) struct Words<'a> {
    line: &'a str,
    words: Vec<&'a str>,
    next: usize,
}

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        Self { line, words: line.split_whitespace().collect(), next: 0 }
    }

    pub(crate) fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).copied()
    }

    pub(crate) fn word(&mut self) -> &'a str {
        let word = self.peek().unwrap_or_else(|| panic!("`{}` lacks a word", self.line));
        self.next += 1;
        word
    }

    pub(crate) fn number<T: std::str::FromStr>(&mut self) -> T {
        let word = self.word();
        self.parse(word)
    }

    pub(crate) fn parse<T: std::str::FromStr>(&self, word: &str) -> T {
        word.parse().unwrap_or_else(|_| panic!("`{word}` in `{}` is no number", self.line))
    }

    /// The next option, if the next word is none of those that end a transaction's operation.
    pub(crate) fn option(&mut self) -> Option<(&'a str, &'a str)> {
        let word = self.peek().filter(|word| !matches!(*word, ";" | "else" | ")"))?;
        self.next += 1;
        Some(word.split_once('=').unwrap_or((word, "")))
    }

    pub(crate) fn unknown(&self, option: &str) -> ! {
        panic!("`{option}` in `{}` is unknown", self.line)
    }

    /// Back to the first word.
    pub(crate) fn rewind(&mut self) {
        self.next = 0;
    }

    fn expect(&mut self, wanted: &str) {
        let word = self.word();
        assert_eq!(word, wanted, "in `{}`", self.line);
    }
}

/// A literal with its escapes.
pub(crate) fn literal(word: &str) -> Bytes {
    if word == "\"\"" {
        return Bytes::new();
    }
    let mut out = Vec::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.extend_from_slice(before.as_bytes());
        let digits = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(digits.unwrap_or_else(|| panic!("`{word}` lacks two hexadecimal digits")));
        rest = &after[2..];
    }
    out.extend_from_slice(rest.as_bytes());
    out.into()
}

/// A value; `N*x` is x repeated.
fn value(word: &str) -> Bytes {
    if let Some((count, piece)) = word.split_once('*')
        && let Ok(count) = count.parse()
    {
        return piece.repeat(count).into();
    }
    literal(word)
}

/// Key and range end.
pub(crate) fn keys(word: &str) -> (Bytes, Bytes) {
    if word == "*" {
        return (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    }
    if let Some(prefix) = word.strip_suffix('*') {
        let prefix = literal(prefix);
        let mut end = prefix.to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end.push(0),
        }
        return (prefix, end.into());
    }
    match word.split_once("..") {
        Some((start, "")) => (literal(start), Bytes::from_static(b"\0")),
        Some((start, end)) => (literal(start), literal(end)),
        None => (literal(word), Bytes::new()),
    }
}

pub(crate) fn put(words: &mut Words<'_>) -> PutRequest {
    let mut request = PutRequest { key: literal(words.word()), value: value(words.word()), ..PutRequest::default() };
    while let Some((option, number)) = words.option() {
        match option {
            "lease" => request.lease = words.parse(number),
            "prev" => request.prev_kv = true,
            "ignore-value" => request.ignore_value = true,
            "ignore-lease" => request.ignore_lease = true,
            _ => words.unknown(option),
        }
    }
    if request.ignore_value {
        request.value = Bytes::new();
    }
    request
}

pub(crate) fn delete(words: &mut Words<'_>) -> DeleteRangeRequest {
    let (key, range_end) = keys(words.word());
    let mut request = DeleteRangeRequest { key, range_end, prev_kv: false };
    while let Some((option, _)) = words.option() {
        match option {
            "prev" => request.prev_kv = true,
            _ => words.unknown(option),
        }
    }
    request
}

pub(crate) fn range(words: &mut Words<'_>) -> RangeRequest {
    let (key, range_end) = keys(words.word());
    let mut request = RangeRequest { key, range_end, ..RangeRequest::default() };
    while let Some((option, argument)) = words.option() {
        match option {
            "rev" => request.revision = words.parse(argument),
            "limit" => request.limit = words.parse(argument),
            "sort" => {
                request.sort_target = match argument {
                    "key" => SortTarget::Key,
                    "version" => SortTarget::Version,
                    "create" => SortTarget::Create,
                    "mod" => SortTarget::Mod,
                    "value" => SortTarget::Value,
                    _ => words.unknown(argument),
                } as i32;
            }
            "order" => {
                request.sort_order = match argument {
                    "none" => SortOrder::None,
                    "asc" => SortOrder::Ascend,
                    "desc" => SortOrder::Descend,
                    _ => words.unknown(argument),
                } as i32;
            }
            "count" => request.count_only = true,
            "keys" => request.keys_only = true,
            "min-mod" => request.min_mod_revision = words.parse(argument),
            "max-mod" => request.max_mod_revision = words.parse(argument),
            "min-create" => request.min_create_revision = words.parse(argument),
            "max-create" => request.max_create_revision = words.parse(argument),
            _ => words.unknown(option),
        }
    }
    request
}

pub(crate) fn txn(words: &mut Words<'_>) -> TxnRequest {
    let mut request = TxnRequest::default();
    if words.peek() == Some("if") {
        words.word();
        while let Some(word) = words.peek().filter(|word| !matches!(*word, "then" | "else" | ")")) {
            words.word();
            request.compare.push(compare(words, word));
        }
    }
    if words.peek() == Some("then") {
        words.word();
        request.success = operations(words);
    }
    if words.peek() == Some("else") {
        words.word();
        request.failure = operations(words);
    }
    request
}

fn operations(words: &mut Words<'_>) -> Vec<RequestOp> {
    let mut operations = Vec::new();
    while words.peek().is_some_and(|word| !matches!(word, "else" | ")")) {
        let request = match words.word() {
            ";" => continue,
            "put" => Request::RequestPut(put(words)),
            "del" => Request::RequestDeleteRange(delete(words)),
            "get" => Request::RequestRange(range(words)),
            "(" => {
                let nested = txn(words);
                words.expect(")");
                Request::RequestTxn(nested)
            }
            other => words.unknown(other),
        };
        operations.push(RequestOp { request: Some(request) });
    }
    operations
}

fn compare(words: &Words<'_>, word: &str) -> Compare {
    let (target, rest) = word.split_once('(').unwrap_or_else(|| words.unknown(word));
    let (key, rest) = rest.split_once(')').unwrap_or_else(|| words.unknown(word));
    let results = [
        ("!=", CompareResult::NotEqual),
        ("=", CompareResult::Equal),
        ("<", CompareResult::Less),
        (">", CompareResult::Greater),
    ];
    let (argument, result) = results
        .into_iter()
        .find_map(|(sign, result)| rest.strip_prefix(sign).map(|argument| (argument, result)))
        .unwrap_or_else(|| words.unknown(word));
    let (target, union) = match target {
        "version" => (CompareTarget::Version, TargetUnion::Version(words.parse(argument))),
        "create" => (CompareTarget::Create, TargetUnion::CreateRevision(words.parse(argument))),
        "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(words.parse(argument))),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(words.parse(argument))),
        "value" => (CompareTarget::Value, TargetUnion::Value(literal(argument))),
        _ => words.unknown(target),
    };
    let (key, range_end) = keys(key);
    Compare { result: result as i32, target: target as i32, key, range_end, target_union: Some(union) }
}

/// Bytes as a script shows them.
pub(crate) fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "\"\"".to_owned();
    }
    if bytes.len() > 40 && bytes.iter().all(|byte| *byte == bytes[0]) {
        return format!("{}*{}", bytes.len(), bytes[0].escape_ascii());
    }
    bytes.escape_ascii().to_string()
}

/// `a=1 create 2 mod 3 version 2 lease 7`.
pub(crate) fn key_value(kv: &KeyValue) -> String {
    let mut text = format!(
        "{}={} create {} mod {} version {}",
        shown(&kv.key),
        shown(&kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    );
    if kv.lease != 0 {
        let _ = write!(text, " lease {}", kv.lease);
    }
    text
}

/// `put a=1 ..`, with `, before a=0 ..` where the previous value came along.
pub(crate) fn event(event: &Event) -> String {
    let kv = event.kv.as_ref().expect("an event has a key");
    let mut text = format!("{} {}", if event.r#type == 0 { "put" } else { "delete" }, key_value(kv));
    if let Some(previous) = &event.prev_kv {
        let _ = write!(text, ", before {}", key_value(previous));
    }
    text
}

fn revision_of(header: Option<&quorate_proto::etcdserverpb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

pub(crate) fn put_lines(response: &PutResponse) -> String {
    let mut text = format!("revision {}\n", revision_of(response.header.as_ref()));
    if let Some(previous) = &response.prev_kv {
        let _ = writeln!(text, "before {}", key_value(previous));
    }
    text
}

pub(crate) fn delete_lines(response: &DeleteRangeResponse) -> String {
    let mut text = format!("deleted {}, revision {}\n", response.deleted, revision_of(response.header.as_ref()));
    for previous in &response.prev_kvs {
        let _ = writeln!(text, "before {}", key_value(previous));
    }
    text
}

pub(crate) fn range_lines(response: &RangeResponse) -> String {
    let mut text = String::new();
    for kv in &response.kvs {
        text.push_str(&key_value(kv));
        text.push('\n');
    }
    let more = if response.more { ", more" } else { "" };
    let _ = writeln!(text, "count {}{more}, revision {}", response.count, revision_of(response.header.as_ref()));
    text
}

pub(crate) fn txn_lines(response: &TxnResponse) -> String {
    let mut text = if response.succeeded { "then".to_owned() } else { "else".to_owned() };
    let _ = writeln!(text, ", revision {}", revision_of(response.header.as_ref()));
    for operation in &response.responses {
        let (name, lines) = match &operation.response {
            Some(Response::ResponsePut(response)) => ("put", put_lines(response)),
            Some(Response::ResponseDeleteRange(response)) => ("del", delete_lines(response)),
            Some(Response::ResponseRange(response)) => ("get", range_lines(response)),
            Some(Response::ResponseTxn(response)) => ("txn", txn_lines(response)),
            None => ("nothing", String::new()),
        };
        let _ = writeln!(text, "- {name}");
        for line in lines.lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}
