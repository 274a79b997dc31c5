//! The conditions of a transaction, as they are typed: `mod("key") > "7"`.
//!
//! Not here: reading lines. The invariant: a condition that is read means exactly one comparison; anything else is an
//! error that shows the whole line.

use quorate_proto::etcdserverpb::Compare;
use quorate_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use crate::command_line::go_text::{parse_int, quote, unquote_prefix};

/// Reads a condition.
///
/// # Errors
/// What is wrong with the line.
pub(crate) fn parse(line: &str) -> Result<Compare, String> {
    let Some((target, rest)) = line.split_once('(') else { return Err(format!("malformed comparison: {line}")) };
    let parts = Parts::scan(rest);
    let Some(value) = &parts.value else {
        let (key, operator) = (quote(&parts.key), &parts.operator);
        return Err(format!("malformed comparison: {line}; got {target}({key}) {operator} \"\""));
    };
    let number = |base: u32| {
        let value = std::str::from_utf8(value).ok().and_then(|value| parse_int(value, base).ok());
        value.ok_or_else(|| format!("invalid txn compare request: {line}"))
    };
    let (target, union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
        // Leases are typed in hexadecimal wherever they are typed.
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        unknown => return Err(format!("malformed comparison: {line} (unknown target {unknown})")),
    };
    let result = match parts.operator.as_str() {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        unknown => return Err(format!("malformed comparison: {line} (unknown operator {unknown})")),
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: parts.key.into(),
        target_union: Some(union),
        ..Compare::default()
    })
}

/// What stands behind the opening parenthesis, as far as it can be read.
#[derive(Default)]
struct Parts {
    key: Vec<u8>,
    operator: String,
    value: Option<Vec<u8>>,
}

impl Parts {
    /// Reads `"key") operator "value"`; the blanks around the operator are needed.
    fn scan(text: &str) -> Self {
        let mut parts = Self::default();
        let Some((key, rest)) = unquote_prefix(text.trim_start()) else { return parts };
        parts.key = key;
        let Some(rest) = rest.strip_prefix(')').filter(|rest| rest.starts_with(char::is_whitespace)) else {
            return parts;
        };
        let rest = rest.trim_start();
        let (operator, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
        parts.operator = operator.to_owned();
        parts.value = unquote_prefix(rest.trim_start()).map(|(value, _)| value);
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, target: CompareTarget, result: CompareResult, union: TargetUnion) {
        let expected = Compare {
            result: result.into(),
            target: target.into(),
            key: "a".into(),
            target_union: Some(union),
            ..Compare::default()
        };
        assert_eq!(parse(line), Ok(expected), "{line}");
    }

    #[test]
    fn every_target_and_operator() {
        use CompareResult::{Equal, Greater, Less, NotEqual};
        check(r#"mod("a") > "7""#, CompareTarget::Mod, Greater, TargetUnion::ModRevision(7));
        check(r#"m("a") < "7""#, CompareTarget::Mod, Less, TargetUnion::ModRevision(7));
        check(r#"c("a") = "0""#, CompareTarget::Create, Equal, TargetUnion::CreateRevision(0));
        check(r#"create(`a`) != "-1""#, CompareTarget::Create, NotEqual, TargetUnion::CreateRevision(-1));
        check(r#"ver("a") = "1" extra"#, CompareTarget::Version, Equal, TargetUnion::Version(1));
        check(r#"version( "a")  =  "1""#, CompareTarget::Version, Equal, TargetUnion::Version(1));
        check(r#"val("\x61") = "x y""#, CompareTarget::Value, Equal, TargetUnion::Value("x y".into()));
        check(r#"value("a") = "\xff""#, CompareTarget::Value, Equal, TargetUnion::Value(b"\xff".as_slice().into()));
        check(r#"lease("a") = "1f""#, CompareTarget::Lease, Equal, TargetUnion::Lease(31));
    }

    #[test]
    fn errors_show_what_was_read() {
        for (line, error) in [
            ("garbage", "malformed comparison: garbage"),
            (r#"value("a")="1""#, r#"malformed comparison: value("a")="1"; got value("a")  """#),
            (r#"value(a) = "1""#, r#"malformed comparison: value(a) = "1"; got value("")  """#),
            (r#"value("a") = 1"#, r#"malformed comparison: value("a") = 1; got value("a") = """#),
            (r#"value("a""#, r#"malformed comparison: value("a"; got value("a")  """#),
            (r#"value ("a") = "x""#, r#"malformed comparison: value ("a") = "x" (unknown target value )"#),
            (r#"mod("a") > "x""#, r#"invalid txn compare request: mod("a") > "x""#),
            (r#"value("a") == "x""#, r#"malformed comparison: value("a") == "x" (unknown operator ==)"#),
        ] {
            assert_eq!(parse(line), Err(error.to_owned()), "{line}");
        }
    }
}
