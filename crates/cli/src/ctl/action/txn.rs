//! `txn`: a transaction read line by line.
//!
//! Not here: conditions (`comparison`) and the operations' words (`kv`). The invariant: nothing is sent unless all
//! three parts were read to their end.

use std::io::BufRead;

use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::{self as pb, Compare, RequestOp};

use super::kv::{self, ValueSource};
use super::{comparison, line};
use crate::command_line::flag::{Flag, Values};
use crate::command_line::tree::Command;
use crate::command_line::usage;
use crate::ctl::entry::Invocation;
use crate::ctl::failure::Failure;
use crate::ctl::print::{Reply, write_out};
use crate::ctl::tree::{self, Action};

static OPERATIONS: [(&str, Command<Action>); 3] = [("get", tree::GET), ("put", tree::PUT), ("del", tree::DEL)];

/// `txn`
pub(crate) async fn txn(mut run: Invocation) -> Result<(), Failure> {
    if !run.words().is_empty() {
        return Err(Failure::arguments("txn command does not accept argument"));
    }
    let interactive = run.values.is_set("interactive");
    let (mut client, printer) = run.client().await?;
    let prompt = |text: &str| if interactive { write_out(text.as_bytes()) } else { Ok(()) };
    let mut input = std::io::stdin().lock();
    prompt("compares:\n")?;
    let compare = read_part(&mut input, parse_condition)?;
    prompt("success requests (get, put, del):\n")?;
    let success = read_part(&mut input, parse_operation)?;
    prompt("failure requests (get, put, del):\n")?;
    let failure = read_part(&mut input, parse_operation)?;
    drop(input);
    let reply = client.call(pb::TxnRequest { compare, success, failure }, None).await?;
    printer.print(Reply::Txn(&reply))
}

/// Reads lines up to an empty one.
fn read_part<Item>(
    input: &mut impl BufRead,
    parse: impl Fn(&str) -> Result<Item, Failure>,
) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    loop {
        let line = line::read_line(input).map_err(|fault| Failure::input(fault.to_string()))?;
        if line.is_empty() {
            return Ok(items);
        }
        items.push(parse(&line)?);
    }
}

fn parse_condition(line: &str) -> Result<Compare, Failure> {
    comparison::parse(line).map_err(Failure::input)
}

fn parse_operation(line: &str) -> Result<RequestOp, Failure> {
    let words = line::split(line).map_err(|fault| Failure::input(fault.to_string()))?;
    let [name, arguments @ ..] = words.as_slice() else { return Err(invalid(line)) };
    if arguments.is_empty() {
        return Err(Failure::input(format!("invalid txn compare request: {line}")));
    }
    // The start of a name is enough, as for commands; the names begin differently.
    let is_meant = |operation: &str| !name.is_empty() && operation.starts_with(name.as_str());
    let Some((_, command)) = OPERATIONS.iter().find(|(operation, _)| is_meant(operation)) else {
        return Err(invalid(line));
    };
    let flags: Vec<&'static Flag> = command.flags.iter().collect();
    let values = Values::read(&flags, arguments).map_err(|_| {
        let usage = usage::usage(&[&tree::ROOT, command], "");
        eprintln!("{usage}");
        invalid(line)
    })?;
    let request = match name.as_str() {
        "get" => Request::RequestRange(kv::range_request(&values)?),
        "put" => Request::RequestPut(kv::put_request(&values, ValueSource::WordsOnly)?),
        _ => Request::RequestDeleteRange(kv::delete_request(&values)?),
    };
    Ok(RequestOp { request: Some(request) })
}

fn invalid(line: &str) -> Failure {
    Failure::input(format!("invalid txn request: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations() {
        let put = |line: &str| match parse_operation(line).expect(line).request {
            Some(Request::RequestPut(put)) => put,
            other => panic!("{line}: {other:?}"),
        };
        let request = put(r#"put "a b" --prev-kv "1\n""#);
        assert_eq!((request.key.as_ref(), request.value.as_ref(), request.prev_kv), (&b"a b"[..], &b"1\n"[..], true));
        assert!(matches!(
            parse_operation("del --prefix p").expect("valid").request,
            Some(Request::RequestDeleteRange(delete)) if delete.range_end.as_ref() == b"q"
        ));
    }

    #[test]
    fn refused_operations() {
        for (line, code, message) in [
            ("foo", 3, "invalid txn compare request: foo"),
            ("put", 3, "invalid txn compare request: put"),
            ("PUT a b", 3, "invalid txn request: PUT a b"),
            ("txn a", 3, "invalid txn request: txn a"),
            ("put a", 128, "put command needs 1 argument and input from stdin or 2 arguments"),
            (r#"put "\q" 1"#, 3, "invalid syntax"),
        ] {
            assert_eq!(parse_operation(line), Err(Failure::new(code, message)), "{line}");
        }
    }

    #[test]
    fn parts_end_at_an_empty_line() {
        let mut input = "get a\r\n  get b\n \nget c".as_bytes();
        assert_eq!(read_part(&mut input, parse_operation).map(|part| part.len()), Ok(2));
        assert_eq!(read_part(&mut input, parse_operation), Err(Failure::input("EOF")));
    }
}
