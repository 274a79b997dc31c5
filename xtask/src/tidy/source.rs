//! Reads Rust text as far as the rules need it: code without comments and literals, and without test items.
//!
//! It is no parser: it knows comments, literals, braces and words. Line numbers stay what they were in the file.

/// The text with every comment and every content of a literal replaced by blanks.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !is_word_byte_before(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => end,
                None => at + 1,
            },
            b'\'' => char_end(bytes, at).unwrap_or(at + 1),
            _ => at + 1,
        };
        if end > at + 1 {
            for byte in &mut out[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The code with every item under `#[cfg(test)]` replaced by blanks.
pub(crate) fn without_test_items(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for (start, end) in test_items(code) {
        for byte in &mut out[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The names in `#[cfg(test)] mod name;`.
pub(crate) fn test_modules(code: &str) -> Vec<String> {
    test_items(code)
        .into_iter()
        .filter_map(|(start, end)| {
            let item = code[start..end].strip_suffix(';')?;
            let mut words = item.split_whitespace().rev();
            let name = words.next()?;
            (words.next()? == "mod").then(|| name.to_owned())
        })
        .collect()
}

/// Whether a word or path stands in the line, not as a part of a longer word.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    line.match_indices(word).any(|(at, _)| {
        let bytes = line.as_bytes();
        !is_word(at.checked_sub(1).and_then(|before| bytes.get(before))) && !is_word(bytes.get(at + word.len()))
    })
}

/// Whether the line makes or names a hash map or set without saying which hasher.
pub(crate) fn randomly_seeded(line: &str, map: &str) -> bool {
    let arguments_with_hasher = if map == "HashMap" { 3 } else { 2 };
    line.match_indices(map).any(|(at, _)| {
        if !has_word(&line[at.saturating_sub(1)..(at + map.len() + 1).min(line.len())], map) {
            return false;
        }
        let rest = &line[at + map.len()..];
        let rest = rest.strip_prefix("::").filter(|rest| rest.starts_with('<')).unwrap_or(rest);
        if ["::new(", "::with_capacity(", "::from("].iter().any(|call| rest.starts_with(call)) {
            return true;
        }
        rest.starts_with('<') && arguments(rest).is_some_and(|count| count < arguments_with_hasher)
    })
}

/// The number of type arguments in a text that opens with `<`; none if they go on in the next line.
fn arguments(text: &str) -> Option<usize> {
    let (mut depth, mut count) = (0i32, 1);
    let mut before = ' ';
    for character in text.chars() {
        match character {
            '<' | '(' | '[' => depth += 1,
            '>' if before == '-' => {}
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 1 => count += 1,
            _ => {}
        }
        if depth == 0 {
            return Some(count);
        }
        before = character;
    }
    None
}

fn test_items(code: &str) -> Vec<(usize, usize)> {
    const MARK: &str = "#[cfg(test)]";
    let mut items: Vec<(usize, usize)> = Vec::new();
    for (start, _) in code.match_indices(MARK) {
        if items.last().is_some_and(|(_, end)| start < *end) {
            continue;
        }
        let mut depth = 0;
        let mut end = code.len();
        for (at, byte) in code.bytes().enumerate().skip(start + MARK.len()) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(byte, b'}' | b';') {
                end = at + 1;
                break;
            }
        }
        items.push((start, end));
    }
    items
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
}

fn is_word_byte_before(bytes: &[u8], at: usize) -> bool {
    // A `b` before is the prefix of a byte string, which is a word of its own.
    let before = |back: usize| at.checked_sub(back).map(|at| bytes[at]);
    let is_word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if before(1) == Some(b'b') { is_word(before(2)) } else { is_word(before(1)) }
}

fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], from: usize) -> Option<usize> {
    let hashes = bytes[from + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(from + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    Some(find(bytes, from + 2 + hashes, &close).map_or(bytes.len(), |at| at + close.len()))
}

/// The end of a character literal; none for a lifetime.
fn char_end(bytes: &[u8], from: usize) -> Option<usize> {
    if bytes.get(from + 1) == Some(&b'\\') {
        return find(bytes, from + 3, b"'").map(|at| at + 1);
    }
    // One character may be up to four bytes.
    (2..=5)
        .map(|length| from + length)
        .find(|at| bytes.get(*at) == Some(&b'\''))
        .filter(|at| std::str::from_utf8(&bytes[from + 1..*at]).is_ok_and(|inside| inside.chars().count() == 1))
        .map(|at| at + 1)
}
