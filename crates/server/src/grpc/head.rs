//! What a call's request headers say, read in one pass.

use crate::grpc::status::{Code, Status};
use http::HeaderMap;
use std::time::Duration;

/// The part of a call's headers that matters to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallHead {
    /// How long the caller waits; `None`: as long as it takes.
    pub timeout: Option<Duration>,
    /// Whether the call must fail at a member that knows no leader (etcd's metadata `hasleader: true`).
    pub require_leader: bool,
    /// `grpc-encoding`, when it is not `identity`.
    pub encoding: Option<String>,
}

impl CallHead {
    /// Reads the headers. A malformed timeout is an error, as it is in gRPC-Go.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Status> {
        let mut head = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "grpc-timeout" => {
                    let Some(timeout) = parse_timeout(value.as_bytes()) else {
                        return Err(Status::new(
                            Code::Internal,
                            format!("malformed grpc-timeout: {}", String::from_utf8_lossy(value.as_bytes())),
                        ));
                    };
                    head.timeout = Some(timeout);
                }
                "hasleader" => head.require_leader = value.as_bytes() == b"true",
                "grpc-encoding" if value.as_bytes() != b"identity" => {
                    head.encoding = Some(String::from_utf8_lossy(value.as_bytes()).into_owned());
                }
                _ => {}
            }
        }
        Ok(head)
    }
}

/// Whether a content type is gRPC's: `application/grpc`, alone or with a suffix or a parameter.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    matches!(content_type.strip_prefix(b"application/grpc"), Some([] | [b'+' | b';', ..]))
}

/// Up to eight digits and a unit.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let mut amount = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        amount = amount * 10 + u64::from(digit - b'0');
    }
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{HeaderName, HeaderValue};

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<CallHead, Status> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        CallHead::read(&headers)
    }

    #[test]
    fn timeouts_have_six_units() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("5m", Duration::from_millis(5)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), Some(expected), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "123456789S", "1 S"] {
            assert_eq!(parse_timeout(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read(&[("grpc-timeout", "x")]).unwrap_err().code, Code::Internal);
    }

    #[test]
    fn headers_are_read_in_one_pass() {
        let head = read(&[
            ("te", "trailers"),
            ("grpc-timeout", "1S"),
            ("hasleader", "true"),
            ("grpc-encoding", "snappy"),
            ("user-agent", "x"),
        ])
        .unwrap();
        assert_eq!(head.timeout, Some(Duration::from_secs(1)));
        assert!(head.require_leader);
        assert_eq!(head.encoding.as_deref(), Some("snappy"));
        assert_eq!(read(&[("grpc-encoding", "identity"), ("hasleader", "false")]).unwrap(), CallHead::default());
    }

    #[test]
    fn grpc_content_types() {
        for text in ["application/grpc", "application/grpc+proto", "application/grpc;charset=x"] {
            assert!(is_grpc(text.as_bytes()), "{text}");
        }
        for text in ["application/grpcx", "text/plain", "", "application/json"] {
            assert!(!is_grpc(text.as_bytes()), "{text}");
        }
    }
}
