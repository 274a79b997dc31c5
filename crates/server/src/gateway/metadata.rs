//! A request's HTTP headers as the metadata of its call.
//!
//! `Grpc-Metadata-NAME` becomes NAME and `Authorization` stays what it is; HTTP's permanent headers get the prefix
//! `grpcgateway-`; all else stays outside. What a call makes of its metadata is none of this module's business.

use super::base64;
use crate::grpc::status::{Code, Status};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

const PREFIX: &str = "grpc-metadata-";
const TIMEOUT: &str = "grpc-timeout";

/// HTTP headers that a call may look at under a prefix: those that are registered as permanent and that etcd's gateway
/// hands on.
const PERMANENT: [&str; 24] = [
    "accept",
    "accept-charset",
    "accept-language",
    "accept-ranges",
    "authorization",
    "cache-control",
    "content-type",
    "cookie",
    "date",
    "expect",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-schedule-tag-match",
    "if-unmodified-since",
    "max-forwards",
    "origin",
    "pragma",
    "referer",
    "user-agent",
    "via",
    "warning",
];

/// What a gRPC client would have sent.
pub(super) fn of_headers(headers: &HeaderMap) -> Result<HeaderMap, Status> {
    let mut metadata = HeaderMap::new();
    if let Some(timeout) = headers.get(TIMEOUT).filter(|text| !text.is_empty()) {
        put_timeout(timeout, &mut metadata)?;
    }
    for (name, value) in headers {
        if name == AUTHORIZATION {
            metadata.append(AUTHORIZATION, value.clone());
        }
        let given = name.as_str();
        let own = match given.strip_prefix(PREFIX) {
            Some(own) => own.to_owned(),
            None if PERMANENT.contains(&given) => format!("grpcgateway-{given}"),
            None => continue,
        };
        if given.ends_with("-bin") {
            check_binary(given, value)?;
        } else if !value.as_bytes().iter().all(|byte| (0x20..=0x7e).contains(byte)) {
            continue;
        }
        // What gRPC itself says in headers is not the caller's to say here.
        let reserved = own.starts_with("grpc-") || own == "content-type" || own == "te";
        if let Ok(own) = HeaderName::try_from(own)
            && !reserved
        {
            metadata.append(own, value.clone());
        }
    }
    Ok(metadata)
}

fn check_binary(name: &str, value: &HeaderValue) -> Result<(), Status> {
    if base64::decode(value.as_bytes(), &mut Vec::new()).is_some() {
        return Ok(());
    }
    let shown: Vec<String> = name
        .split('-')
        .map(|word| word[..word.len().min(1)].to_ascii_uppercase() + &word[word.len().min(1)..])
        .collect();
    let at = value.as_bytes().iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"+/=".contains(byte));
    let at = at.unwrap_or(value.len());
    Err(Status::new(
        Code::InvalidArgument,
        format!("invalid binary header {}: illegal base64 data at input byte {at}", shown.join("-")),
    ))
}

/// A number and a unit, as in gRPC but of any size; none is no bound.
fn put_timeout(text: &HeaderValue, metadata: &mut HeaderMap) -> Result<(), Status> {
    let shown = String::from_utf8_lossy(text.as_bytes());
    let invalid = || Status::new(Code::InvalidArgument, format!("invalid grpc-timeout: {shown}"));
    let unit_at = shown.len().checked_sub(1).filter(|&at| at > 0 && shown.is_char_boundary(at)).ok_or_else(invalid)?;
    let (digits, unit) = shown.split_at(unit_at);
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return Err(invalid()),
    };
    let amount: i64 = digits.parse().map_err(|_| invalid())?;
    if amount == 0 {
        return Ok(());
    }
    let nanoseconds = unit.as_nanos().saturating_mul(u128::try_from(amount).unwrap_or(0));
    // gRPC has eight digits: the smallest unit that holds it, rounded up.
    let units = [(1, 'n'), (1_000, 'u'), (1_000_000, 'm'), (1_000_000_000, 'S'), (60_000_000_000, 'M')];
    let fitting = units.into_iter().map(|(size, unit)| (nanoseconds.div_ceil(size), unit));
    let (amount, unit) = fitting.into_iter().find(|(amount, _)| *amount < 100_000_000).unwrap_or((99_999_999, 'H'));
    let value = HeaderValue::try_from(format!("{amount}{unit}")).expect("digits and a letter");
    metadata.insert(HeaderName::from_static(TIMEOUT), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&'static str, &'static str)]) -> Result<HeaderMap, Status> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        of_headers(&headers)
    }

    #[test]
    fn metadata_loses_its_prefix_and_the_token_is_handed_on() {
        let found = metadata(&[
            ("grpc-metadata-hasleader", "true"),
            ("authorization", "token"),
            ("user-agent", "x"),
            ("x-other", "y"),
            ("grpc-metadata-grpc-timeout", "1n"),
            ("grpc-metadata-a-bin", "Zg=="),
        ])
        .unwrap();
        assert_eq!(found["hasleader"], "true");
        assert_eq!(found["authorization"], "token");
        assert_eq!(found["grpcgateway-user-agent"], "x");
        assert_eq!(found["a-bin"], "Zg==");
        assert!(!found.contains_key("x-other") && !found.contains_key("grpc-timeout"));
    }

    #[test]
    fn timeouts_fit_into_grpcs_eight_digits() {
        for (given, sent) in [
            ("1n", "1n"),
            ("1S", "1000000u"),
            ("100S", "100000m"),
            ("-5S", "0n"),
            ("123456789012345S", "99999999H"),
            ("2H", "7200000m"),
        ] {
            assert_eq!(metadata(&[("grpc-timeout", given)]).unwrap()["grpc-timeout"], sent, "{given}");
        }
        assert!(metadata(&[("grpc-timeout", "0S")]).unwrap().is_empty());
        for given in ["x", "S", "1s", "1.5S", "S1"] {
            let refused = metadata(&[("grpc-timeout", given)]).unwrap_err();
            assert_eq!(refused.message, format!("invalid grpc-timeout: {given}"));
        }
    }

    #[test]
    fn binary_metadata_must_be_base64() {
        assert_eq!(
            metadata(&[("grpc-metadata-x-bin", "!!")]).unwrap_err().message,
            "invalid binary header Grpc-Metadata-X-Bin: illegal base64 data at input byte 0"
        );
    }
}
