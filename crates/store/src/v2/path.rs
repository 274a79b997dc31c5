//! Paths: absolute, `/` between names, no empty names.

/// A path without empty names, `.` and `..`, beginning with `/`. The same for all that mean the same node.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    let mut out = Vec::with_capacity(path.len() + 1);
    for part in &parts {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// The names of a clean path.
pub(super) fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
}

/// A child's path.
pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    if parent != b"/" {
        path.extend_from_slice(parent);
    }
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

/// The directory that holds a clean path that is not the root, and the name in it.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    (if at == 0 { b"/" } else { &path[..at] }, path.get(at + 1..).unwrap_or(&[]))
}

/// Whether `path` is below `ancestor`.
pub(super) fn is_below(path: &[u8], ancestor: &[u8]) -> bool {
    if ancestor == b"/" {
        return path.len() > 1;
    }
    path.strip_prefix(ancestor).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Whether somebody at `watched`, at or above `path`, does not see it: a name below `watched` begins with `_`.
pub(super) fn is_hidden(watched: &[u8], path: &[u8]) -> bool {
    let rest = if watched == b"/" { path } else { path.get(watched.len()..).unwrap_or(&[]) };
    names(rest).any(|name| name.first() == Some(&b'_'))
}

/// A clean path and all above it, the root first.
pub(super) fn ancestry(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let inner = (1..path.len()).filter(|&end| path[end] == b'/').map(|end| &path[..end]);
    let own = (path.len() > 1).then_some(path);
    std::iter::once(&b"/"[..]).chain(inner).chain(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_mean_the_same_are_the_same() {
        for (given, want) in [("", "/"), ("a", "/a"), ("//a/./b/", "/a/b"), ("/a/../b", "/b"), ("/../..", "/")] {
            assert_eq!(clean(given.as_bytes()), want.as_bytes(), "{given}");
        }
    }

    #[test]
    fn families() {
        assert_eq!(split(b"/a/b"), (&b"/a"[..], &b"b"[..]));
        assert_eq!(split(b"/a"), (&b"/"[..], &b"a"[..]));
        assert_eq!(join(b"/", b"a"), b"/a");
        assert!(is_below(b"/a/b", b"/a") && is_below(b"/a", b"/") && !is_below(b"/ab", b"/a") && !is_below(b"/", b"/"));
        let paths: Vec<_> = ancestry(b"/a/b").collect();
        assert_eq!(paths, [&b"/"[..], b"/a", b"/a/b"]);
        assert_eq!(ancestry(b"/").count(), 1);
        assert!(is_hidden(b"/a", b"/a/_b/c") && is_hidden(b"/", b"/_a") && !is_hidden(b"/_a", b"/_a/b"));
    }
}
