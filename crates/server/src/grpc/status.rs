//! gRPC status codes and how a call's end is written into trailers.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use std::borrow::Cow;
use std::fmt::Write;

/// `grpc-status`.
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`, percent-encoded.
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The codes of gRPC, with their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// How many there are.
    pub(crate) const COUNT: usize = 17;

    /// All codes, by number.
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Ok,
        Self::Canceled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The name in metrics, as gRPC-Go spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Canceled => "Canceled",
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::PermissionDenied => "PermissionDenied",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::FailedPrecondition => "FailedPrecondition",
            Self::Aborted => "Aborted",
            Self::OutOfRange => "OutOfRange",
            Self::Unimplemented => "Unimplemented",
            Self::Internal => "Internal",
            Self::Unavailable => "Unavailable",
            Self::DataLoss => "DataLoss",
            Self::Unauthenticated => "Unauthenticated",
        }
    }

    fn header_value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Ok => "0",
            Self::Canceled => "1",
            Self::Unknown => "2",
            Self::InvalidArgument => "3",
            Self::DeadlineExceeded => "4",
            Self::NotFound => "5",
            Self::AlreadyExists => "6",
            Self::PermissionDenied => "7",
            Self::ResourceExhausted => "8",
            Self::FailedPrecondition => "9",
            Self::Aborted => "10",
            Self::OutOfRange => "11",
            Self::Unimplemented => "12",
            Self::Internal => "13",
            Self::Unavailable => "14",
            Self::DataLoss => "15",
            Self::Unauthenticated => "16",
        })
    }
}

/// Why a call failed: clients compare both parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Never [`Code::Ok`].
    pub code: Code,
    /// etcd's or gRPC-Go's text.
    pub message: Cow<'static, str>,
}

impl Status {
    /// A failure.
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// As gRPC-Go prints an error: what etcd gives as the reason why a watcher is refused, and its clients compare.
    pub(crate) fn go_text(&self) -> String {
        format!("rpc error: code = {} desc = {}", self.code.name(), self.message)
    }

    /// Writes the status into response headers or trailers.
    pub(crate) fn write_to(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, self.code.header_value());
        if !self.message.is_empty() {
            headers.insert(GRPC_MESSAGE, percent_encoded(&self.message));
        }
    }

    /// Trailers that say it.
    pub(crate) fn trailers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(2);
        self.write_to(&mut headers);
        headers
    }
}

/// Trailers of a call that went well.
pub(crate) fn ok_trailers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(GRPC_STATUS, Code::Ok.header_value());
    headers
}

/// gRPC's percent-encoding: everything but printable ASCII, and the percent sign itself.
fn percent_encoded(text: &str) -> HeaderValue {
    let plain = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'%';
    let mut encoded = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if plain(byte) {
            encoded.push(byte as char);
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string can't fail");
        }
    }
    HeaderValue::try_from(encoded).expect("only printable ASCII is left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_numbers() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
            assert_eq!(code.header_value(), number.to_string());
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        let trailers = Status::new(Code::Unknown, "50% \u{e4}\n\"leader\"").trailers();
        assert_eq!(trailers[GRPC_STATUS], "2");
        assert_eq!(trailers[GRPC_MESSAGE], "50%25 %C3%A4%0A\"leader\"");
    }

    #[test]
    fn an_error_is_printed_as_in_go() {
        let status = Status::new(Code::PermissionDenied, "etcdserver: permission denied");
        assert_eq!(status.go_text(), "rpc error: code = PermissionDenied desc = etcdserver: permission denied");
    }

    #[test]
    fn an_empty_message_is_left_out() {
        assert!(!Status::new(Code::Internal, "").trailers().contains_key(GRPC_MESSAGE));
    }
}
