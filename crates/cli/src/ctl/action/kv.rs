//! `get`, `put` and `del`, as commands and as operations of a transaction.
//!
//! Not here: transactions themselves. The invariant: a command and the operation of the same name read their words and
//! flags by one function.

use std::io::Read;
use std::time::Duration;

use quorate_proto::etcdserverpb::kv_client::KvClient;
use quorate_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_proto::etcdserverpb::{self as pb};

use crate::command_line::flag::Values;
use crate::command_line::go_text::{parse_int, quote};
use crate::command_line::word;
use crate::ctl::client::{Client, Deadline};
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, CallError, Failure};
use crate::ctl::print::{Format, Printer, Reply, prefix_end};

/// The key below all keys, and the range end above all keys.
const ZERO: &[u8] = b"\0";
/// How long a range delete that may be a slip waits for an interrupt.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

/// `get`
pub(crate) async fn get(mut run: Invocation) -> Result<(), Failure> {
    let request = range_request(&run.values)?;
    let (mut client, printer) = run.client().await?;
    if request.count_only && printer.format != Format::Fields {
        return Err(Failure::arguments("--count-only is only for `--write-out=fields`"));
    }
    let values_only = run.values.is_set("print-value-only");
    if values_only && printer.format != Format::Simple {
        return Err(Failure::arguments("print-value-only is only for `--write-out=simple`"));
    }
    let deadline = client.command_deadline();
    let reply = if run.values.is_set("stream") {
        range_stream(&mut client, request, deadline).await?
    } else {
        client.call(request, deadline).await?
    };
    Printer { values_only, ..printer }.print(Reply::Get(&reply))
}

/// Collects a range that comes in parts.
async fn range_stream(
    client: &mut Client,
    request: pb::RangeRequest,
    deadline: Deadline,
) -> Result<pb::RangeResponse, CallError> {
    let channel = client.connection(deadline).await?;
    let request = client.request(request, deadline);
    let receive_bytes_max = client.settings().receive_bytes_max;
    let mut service = KvClient::new(channel).max_decoding_message_size(receive_bytes_max);
    let parts = service.range_stream(request).await;
    let mut parts = parts.map_err(|status| client.judge(&status))?.into_inner();
    let mut whole = pb::RangeResponse::default();
    while let Some(part) = parts.message().await.map_err(|status| client.judge(&status))? {
        let Some(part) = part.range_response else { continue };
        whole.kvs.extend(part.kvs);
        whole.header = part.header.or(whole.header);
        whole.more |= part.more;
        whole.count = whole.count.max(part.count);
    }
    Ok(whole)
}

/// Reads the words and flags of `get`.
///
/// # Errors
/// Words or flags that contradict each other or say nothing.
pub(crate) fn range_request(values: &Values) -> Result<pb::RangeRequest, Failure> {
    let Some(key) = values.words.first() else {
        let message = "get command needs one argument as key and an optional argument as range_end";
        return Err(Failure::arguments(message));
    };
    if values.is_set("keys-only") && values.is_set("count-only") {
        let message = "`--keys-only` and `--count-only` cannot be set at the same time, choose one";
        return Err(Failure::arguments(message));
    }
    let (key, range_end) = range(values, key, values.words.get(1))?;
    let serializable = match values.text("consistency") {
        "l" => false,
        "s" => true,
        other => {
            let message = format!("unknown consistency flag {}", quote(other.as_bytes()));
            return Err(Failure::new(failure::FEATURE, message));
        }
    };
    let order = match values.text("order").to_uppercase().as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return Err(Failure::new(failure::FEATURE, format!("bad sort order {}", values.text("order")))),
    };
    let target = match values.text("sort-by").to_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(Failure::new(failure::FEATURE, format!("bad sort target {}", values.text("sort-by")))),
    };
    // Keys come in ascending order anyway.
    let order = if target == SortTarget::Key && order == SortOrder::Ascend { SortOrder::None } else { order };
    Ok(pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: values.int("limit"),
        revision: values.int("rev"),
        sort_order: order.into(),
        sort_target: target.into(),
        serializable,
        keys_only: values.is_set("keys-only"),
        count_only: values.is_set("count-only"),
        min_mod_revision: values.int("min-mod-rev"),
        max_mod_revision: values.int("max-mod-rev"),
        min_create_revision: values.int("min-create-rev"),
        max_create_revision: values.int("max-create-rev"),
    })
}

/// Reads a key, a range end, and the flags that stand for a range end.
fn range(values: &Values, key: &str, range_end: Option<&String>) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (prefix, from_key) = (values.is_set("prefix"), values.is_set("from-key"));
    if prefix && from_key {
        let message = "`--prefix` and `--from-key` cannot be set at the same time, choose one";
        return Err(Failure::arguments(message));
    }
    if range_end.is_some() && (prefix || from_key) {
        let message = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";
        return Err(Failure::arguments(message));
    }
    let bytes = word::bytes(key);
    Ok(match range_end {
        Some(range_end) => (bytes, word::bytes(range_end)),
        None if key.is_empty() && (prefix || from_key) => (ZERO.to_vec(), ZERO.to_vec()),
        None if prefix => {
            let range_end = prefix_end(&bytes);
            (bytes, range_end)
        }
        None if from_key => (bytes, ZERO.to_vec()),
        None => (bytes, Vec::new()),
    })
}

/// Where a `put` may take its value from when no word gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueSource {
    /// Standard input, to its end.
    StandardInput,
    /// Nowhere: standard input has another use.
    WordsOnly,
}

/// `put`
pub(crate) async fn put(mut run: Invocation) -> Result<(), Failure> {
    let request = put_request(&run.values, ValueSource::StandardInput)?;
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(request, deadline).await?;
    printer.print(Reply::Put(&reply))
}

/// Reads the words and flags of `put`, and its value.
///
/// # Errors
/// Words or flags that contradict each other or say nothing; no value.
pub(crate) fn put_request(values: &Values, source: ValueSource) -> Result<pb::PutRequest, Failure> {
    let ignore_value = values.is_set("ignore-value");
    let needs_value = "put command needs 1 argument and input from stdin or 2 arguments";
    let Some(key) = values.words.first() else { return Err(Failure::arguments(needs_value)) };
    if ignore_value && values.words.len() > 1 {
        return Err(Failure::arguments("put command needs only 1 argument when 'ignore-value' is set"));
    }
    let value = match values.words.get(1) {
        Some(value) => word::bytes(value),
        None if ignore_value => Vec::new(),
        None if source == ValueSource::StandardInput => {
            standard_input().ok_or_else(|| Failure::arguments(needs_value))?
        }
        None => return Err(Failure::arguments(needs_value)),
    };
    let lease = parse_int(values.text("lease"), 16)
        .map_err(|reason| Failure::arguments(format!("bad lease ID ({reason}), expecting ID in Hex")))?;
    Ok(pb::PutRequest {
        key: word::bytes(key).into(),
        value: value.into(),
        lease,
        prev_kv: values.is_set("prev-kv"),
        ignore_value,
        ignore_lease: values.is_set("ignore-lease"),
    })
}

/// All of the standard input; None if there is nothing.
fn standard_input() -> Option<Vec<u8>> {
    let mut value = Vec::new();
    std::io::stdin().lock().read_to_end(&mut value).ok()?;
    Some(value).filter(|value| !value.is_empty())
}

/// `del`
pub(crate) async fn delete(mut run: Invocation) -> Result<(), Failure> {
    let request = delete_request(&run.values)?;
    let (mut client, printer) = run.client().await?;
    if let [key, range_end] = run.words()
        && !run.values.is_set("range")
    {
        let (key, range_end) = (quote(&word::bytes(key)), quote(&word::bytes(range_end)));
        let seconds = SECOND_THOUGHTS.as_secs();
        eprintln!(
            "Warning: Keys between {key} and {range_end} will be deleted. Please interrupt the command within next \
                 {seconds} seconds to cancel. You can provide `--range` flag to avoid the delay."
        );
        tokio::time::sleep(SECOND_THOUGHTS).await;
    }
    let deadline = client.command_deadline();
    let reply = client.call(request, deadline).await?;
    printer.print(Reply::Delete(&reply))
}

/// Reads the words and flags of `del`.
///
/// # Errors
/// Words or flags that contradict each other or say nothing.
pub(crate) fn delete_request(values: &Values) -> Result<pb::DeleteRangeRequest, Failure> {
    let (key, range_end) = match values.words.as_slice() {
        [key] => (key, None),
        [key, range_end] => (key, Some(range_end)),
        _ => {
            let message = "del command needs one argument as key and an optional argument as range_end";
            return Err(Failure::arguments(message));
        }
    };
    let (key, range_end) = range(values, key, range_end)?;
    Ok(pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: values.is_set("prev-kv") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::flag::Flag;
    use crate::ctl::tree;

    fn get(line: &str) -> Result<pb::RangeRequest, Failure> {
        range_request(&read(tree::GET.flags, line))
    }

    fn read(flags: &'static [Flag], line: &str) -> Values {
        let flags: Vec<&'static Flag> = flags.iter().collect();
        let words: Vec<String> = line.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect();
        Values::read(&flags, &words).expect("readable flags")
    }

    #[test]
    fn ranges() {
        let range = |line: &str| get(line).map(|request| (request.key.to_vec(), request.range_end.to_vec()));
        let is = |key: &[u8], range_end: &[u8]| Ok((key.to_vec(), range_end.to_vec()));
        assert_eq!(range("a"), is(b"a", b""));
        assert_eq!(range("a z"), is(b"a", b"z"));
        assert_eq!(range("--prefix a"), is(b"a", b"b"));
        assert_eq!(range("a --from-key"), is(b"a", b"\0"));
        assert_eq!(range("'' --from-key"), is(b"\0", b"\0"));
        assert_eq!(range("'' --prefix"), is(b"\0", b"\0"));
        for (line, message) in [
            ("a --prefix --from-key", "`--prefix` and `--from-key` cannot be set at the same time, choose one"),
            ("a b --prefix", "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"),
            (
                "a --keys-only --count-only",
                "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
            ),
        ] {
            assert_eq!(range(line), Err(Failure::arguments(message)), "{line}");
        }
    }

    #[test]
    fn prefixes_end_behind_their_last_key() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff\xff"), b"\0");
    }

    #[test]
    fn sorting_and_consistency() {
        let sorted = |line: &str| get(line).map(|request| (request.sort_order(), request.sort_target()));
        assert_eq!(sorted("a --order ascend"), Ok((SortOrder::None, SortTarget::Key)));
        assert_eq!(sorted("a --order=DESCEND --sort-by=modify"), Ok((SortOrder::Descend, SortTarget::Mod)));
        assert_eq!(sorted("a --order x"), Err(Failure::new(4, "bad sort order x")));
        assert_eq!(sorted("a --sort-by x"), Err(Failure::new(4, "bad sort target x")));
        assert_eq!(get("a --consistency x"), Err(Failure::new(4, "unknown consistency flag \"x\"")));
        assert!(get("a --consistency=s").expect("valid").serializable);
    }

    #[test]
    fn puts_need_a_value_from_somewhere() {
        let put = |line: &str| put_request(&read(tree::PUT.flags, line), ValueSource::WordsOnly);
        assert_eq!(put("a b c --lease 1f --prev-kv").map(|request| (request.lease, request.prev_kv)), Ok((31, true)));
        assert_eq!(put("a").expect_err("no value").code, 128);
        assert!(put("a --ignore-value").is_ok());
        let message = "put command needs only 1 argument when 'ignore-value' is set";
        assert_eq!(put("a b --ignore-value"), Err(Failure::arguments(message)));
        let message = "bad lease ID (strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex";
        assert_eq!(put("a b --lease zz"), Err(Failure::arguments(message)));
    }
}
