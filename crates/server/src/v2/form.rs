//! Forms as Go reads them: percent-encoding, the body's fields in front of the query's, and Go's words for what is wrong.

use http::Method;

/// A form's fields, those of the body first.
#[derive(Debug, Default)]
pub(super) struct Form(Vec<(Vec<u8>, Vec<u8>)>);

impl Form {
    /// Reads the query and, where there is one, the body; or tells why it cannot be read.
    pub(super) fn read(method: &Method, content_type: Option<&str>, query: &str, body: &[u8]) -> Result<Self, String> {
        let mut fields = Vec::new();
        let mut failure = None;
        let has_form = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        let media = content_type.unwrap_or("").split(';').next().unwrap_or("").trim();
        if has_form && media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            failure = read_fields(body, &mut fields);
        }
        failure = failure.or(read_fields(query.as_bytes(), &mut fields));
        match failure {
            Some(text) => Err(text),
            None => Ok(Self(fields)),
        }
    }

    /// A field's first value.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(own, _)| own == name.as_bytes()).map(|(_, value)| &value[..])
    }

    /// A field's first value; empty when it is not there.
    pub(super) fn text(&self, name: &str) -> &[u8] {
        self.get(name).unwrap_or(&[])
    }

    /// A number; 0 when it is not there.
    pub(super) fn number(&self, name: &str) -> Result<u64, ()> {
        let Some(value) = self.get(name) else { return Ok(0) };
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(());
        }
        std::str::from_utf8(value).map_err(drop)?.parse().map_err(drop)
    }

    /// A switch; `None` when it is not there.
    pub(super) fn switch(&self, name: &str) -> Result<Option<bool>, ()> {
        match self.get(name) {
            None => Ok(None),
            Some(b"1" | b"t" | b"T" | b"TRUE" | b"true" | b"True") => Ok(Some(true)),
            Some(b"0" | b"f" | b"F" | b"FALSE" | b"false" | b"False") => Ok(Some(false)),
            Some(_) => Err(()),
        }
    }
}

/// Appends the fields that can be read; tells the first that cannot, though a semicolon outdoes what was told before.
fn read_fields(text: &[u8], into: &mut Vec<(Vec<u8>, Vec<u8>)>) -> Option<String> {
    let mut failure = None;
    for pair in text.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        if pair.contains(&b';') {
            failure = Some("invalid semicolon separator in query".to_owned());
            continue;
        }
        let at = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let read = |part: &[u8]| unescape(part, true);
        match (read(&pair[..at]), read(pair.get(at + 1..).unwrap_or(&[]))) {
            (Ok(name), Ok(value)) => into.push((name, value)),
            (Err(text), _) | (_, Err(text)) => failure = failure.or(Some(text)),
        }
    }
    failure
}

fn unescape(text: &[u8], is_query: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'%' => {
                let digits = text.get(at..at + 2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
                let Some(value) = value else {
                    let shown = String::from_utf8_lossy(&text[at - 1..text.len().min(at + 2)]).into_owned();
                    return Err(format!("invalid URL escape {}", super::json::quoted(&shown)));
                };
                out.push(value);
                at += 2;
            }
            b'+' if is_query => out.push(b' '),
            byte => out.push(byte),
        }
    }
    Ok(out)
}

/// A path as it is meant; `None` when it cannot be read.
pub(super) fn unescape_path(path: &str) -> Option<Vec<u8>> {
    unescape(path.as_bytes(), false).ok()
}

/// A path as it is written.
pub(super) fn escape_path(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, body: &str) -> Result<Form, String> {
        Form::read(&Method::PUT, Some("application/x-www-form-urlencoded; charset=x"), query, body.as_bytes())
    }

    #[test]
    fn bodies_come_first_and_escapes_are_undone() {
        let form = read("value=query&dir=TRUE&a+b=%2b", "value=body+%41&&empty").unwrap();
        assert_eq!(form.text("value"), b"body A");
        assert_eq!((form.get("empty"), form.get("none"), form.text("a b")), (Some(&b""[..]), None, &b"+"[..]));
        assert_eq!(
            (form.switch("dir"), form.switch("none"), form.switch("value")),
            (Ok(Some(true)), Ok(None), Err(()))
        );
        assert_eq!((form.number("none"), form.number("empty")), (Ok(0), Err(())));
    }

    #[test]
    fn failures_are_told_in_gos_words() {
        assert_eq!(read("a=%zz", "").unwrap_err(), "invalid URL escape \"%zz\"");
        assert_eq!(read("a=%z", "").unwrap_err(), "invalid URL escape \"%z\"");
        assert_eq!(read("a=%zz&b;c", "").unwrap_err(), "invalid semicolon separator in query");
        assert_eq!(unescape_path("/a%2fb+c"), Some(b"/a/b+c".to_vec()));
        assert_eq!(escape_path(b"/a b;\xff"), "/a%20b;%FF");
    }
}
