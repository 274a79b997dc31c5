//! Users and roles of the v2 API as documents: reading and writing them as etcd does, changing them, and what they allow.
//!
//! Owns no state. Invariant: what a document does not grant is denied, and a pattern without a letter grants nothing.

use super::json::put_string;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The role that may do everything, and the user who always holds it.
pub(super) const ROOT: &str = "root";
/// The role of whoever says no name.
pub(super) const GUEST: &str = "guest";

/// A list as JSON knows it: missing, or with so many entries. The two are written differently.
pub(super) type List = Option<Vec<String>>;

/// Why a document is not changed as asked: a status and a text without "auth: ".
pub(super) type Refused = (u16, String);

const BAD_REQUEST: u16 = 400;
const CONFLICT: u16 = 409;

/// Patterns for keys: a path, or the beginning of one and `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Patterns {
    pub(super) read: List,
    pub(super) write: List,
}

/// A role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) held: Patterns,
    pub(super) grant: Option<Patterns>,
    pub(super) revoke: Option<Patterns>,
}

/// A user; the password is a bcrypt hash once it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: String,
    pub(super) roles: List,
    pub(super) grant: List,
    pub(super) revoke: List,
}

/// A document that is none of the kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The first JSON value of a text, an object or null. What follows it does not matter, as with Go.
fn object(text: &[u8]) -> Result<Map<String, Value>, Malformed> {
    let text = String::from_utf8_lossy(text);
    match serde_json::Deserializer::from_str(&text).into_iter::<Value>().next() {
        Some(Ok(Value::Object(fields))) => Ok(fields),
        Some(Ok(Value::Null)) => Ok(Map::new()),
        _ => Err(Malformed),
    }
}

/// A field, in whatever letters it is written; null is as good as missing.
fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = fields.get(name).or_else(|| {
        let same = fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value)
    });
    found.filter(|value| !value.is_null())
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<String, Malformed> {
    match field(fields, name) {
        None => Ok(String::new()),
        Some(value) => value.as_str().map(str::to_owned).ok_or(Malformed),
    }
}

fn list(fields: &Map<String, Value>, name: &str) -> Result<List, Malformed> {
    let Some(value) = field(fields, name) else { return Ok(None) };
    let entries = value.as_array().ok_or(Malformed)?.iter();
    let texts = entries.map(|entry| match entry {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        _ => Err(Malformed),
    });
    texts.collect::<Result<_, _>>().map(Some)
}

fn patterns(fields: &Map<String, Value>, name: &str) -> Result<Option<Patterns>, Malformed> {
    let Some(value) = field(fields, name) else { return Ok(None) };
    let Some(kv) = field(value.as_object().ok_or(Malformed)?, "kv") else {
        return Ok(Some(Patterns::default()));
    };
    let kv = kv.as_object().ok_or(Malformed)?;
    Ok(Some(Patterns { read: list(kv, "read")?, write: list(kv, "write")? }))
}

fn put_list(out: &mut Vec<u8>, list: &List) {
    let Some(entries) = list else {
        out.extend_from_slice(b"null");
        return;
    };
    out.push(b'[');
    for (position, entry) in entries.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        put_string(out, entry.as_bytes());
    }
    out.push(b']');
}

/// An empty list is left out.
fn put_filled_list(out: &mut Vec<u8>, name: &str, list: &List) {
    if list.as_ref().is_some_and(|entries| !entries.is_empty()) {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        put_list(out, list);
    }
}

fn put_patterns(out: &mut Vec<u8>, name: &str, patterns: &Patterns) {
    out.extend_from_slice(format!(",\"{name}\":{{\"kv\":{{\"read\":").as_bytes());
    put_list(out, &patterns.read);
    out.extend_from_slice(b",\"write\":");
    put_list(out, &patterns.write);
    out.extend_from_slice(b"}}");
}

fn count(list: &List) -> usize {
    list.as_ref().map_or(0, Vec::len)
}

fn entries(list: &List) -> impl Iterator<Item = &String> {
    list.iter().flatten()
}

impl Patterns {
    fn all() -> Self {
        let all = Some(vec!["/*".to_owned()]);
        Self { read: all.clone(), write: all }
    }

    pub(super) fn is_empty(&self) -> bool {
        count(&self.read) == 0 && count(&self.write) == 0
    }

    fn granted(&self, more: &Self) -> Result<Self, Refused> {
        let add = |own: &List, more: &List, kind: &str| {
            let mut set: BTreeSet<String> = entries(own).cloned().collect();
            for entry in entries(more) {
                if !set.insert(entry.clone()) {
                    return Err((CONFLICT, format!("Granting duplicate {kind} permission {entry}")));
                }
            }
            Ok(Some(set.into_iter().collect()))
        };
        Ok(Self { read: add(&self.read, &more.read, "read")?, write: add(&self.write, &more.write, "write")? })
    }

    fn revoked(&self, less: &Self) -> Self {
        let take = |own: &List, less: &List| {
            let mut set: BTreeSet<&String> = entries(own).collect();
            set.retain(|own| !entries(less).any(|entry| entry == *own));
            Some(set.into_iter().cloned().collect())
        };
        Self { read: take(&self.read, &less.read), write: take(&self.write, &less.write) }
    }

    fn allow(&self, key: &[u8], write: bool, recursive: bool) -> bool {
        let list = if write { &self.write } else { &self.read };
        entries(list).any(|pattern| match pattern.as_bytes() {
            [beginning @ .., b'*'] => key.starts_with(beginning),
            whole => !recursive && !whole.is_empty() && key == whole,
        })
    }
}

impl Role {
    /// The role that cannot be changed.
    pub(super) fn root() -> Self {
        Self { name: ROOT.to_owned(), held: Patterns::all(), ..Self::default() }
    }

    /// What is made when auth is turned on and nobody made one: as in etcd it may do everything with keys.
    pub(super) fn guest() -> Self {
        Self { name: GUEST.to_owned(), held: Patterns::all(), ..Self::default() }
    }

    pub(super) fn read(document: &[u8]) -> Result<Self, Malformed> {
        let fields = object(document)?;
        Ok(Self {
            name: text(&fields, "role")?,
            held: patterns(&fields, "permissions")?.unwrap_or_default(),
            grant: patterns(&fields, "grant")?,
            revoke: patterns(&fields, "revoke")?,
        })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"role\":");
        put_string(out, self.name.as_bytes());
        put_patterns(out, "permissions", &self.held);
        for (name, patterns) in [("grant", &self.grant), ("revoke", &self.revoke)] {
            if let Some(patterns) = patterns {
                put_patterns(out, name, patterns);
            }
        }
        out.push(b'}');
    }

    /// With what a request grants and revokes.
    pub(super) fn merged(&self, request: &Self) -> Result<Self, Refused> {
        if self.name != request.name {
            let text = format!("Merging role with conflicting names: {} {}", self.name, request.name);
            return Err((CONFLICT, text));
        }
        let mut held = self.held.clone();
        if let Some(more) = &request.grant {
            held = held.granted(more)?;
        }
        if let Some(less) = &request.revoke {
            held = held.revoked(less);
        }
        let merged = Self { name: self.name.clone(), held, grant: None, revoke: None };
        if merged == *self {
            return Err((BAD_REQUEST, "Role not updated. Use grant/revoke to update the role.".to_owned()));
        }
        Ok(merged)
    }

    /// Whether it allows something to be done with a key, or with all keys below.
    pub(super) fn allows(&self, key: &[u8], write: bool, recursive: bool) -> bool {
        self.name == ROOT || self.held.allow(key, write, recursive)
    }
}

impl User {
    pub(super) fn read(document: &[u8]) -> Result<Self, Malformed> {
        let fields = object(document)?;
        Ok(Self {
            name: text(&fields, "user")?,
            password: text(&fields, "password")?,
            roles: list(&fields, "roles")?,
            grant: list(&fields, "grant")?,
            revoke: list(&fields, "revoke")?,
        })
    }

    /// Without its password unless it is for the store.
    pub(super) fn put(&self, out: &mut Vec<u8>, with_password: bool) {
        out.extend_from_slice(b"{\"user\":");
        put_string(out, self.name.as_bytes());
        if with_password && !self.password.is_empty() {
            out.extend_from_slice(b",\"password\":");
            put_string(out, self.password.as_bytes());
        }
        out.extend_from_slice(b",\"roles\":");
        put_list(out, &self.roles);
        put_filled_list(out, "grant", &self.grant);
        put_filled_list(out, "revoke", &self.revoke);
        out.push(b'}');
    }

    pub(super) fn holds(&self, role: &str) -> bool {
        entries(&self.roles).any(|own| own == role)
    }

    /// The user of that name holds that role, whatever is stored.
    pub(super) fn with_root_role(mut self) -> Self {
        if self.name == ROOT && !self.holds(ROOT) {
            self.roles.get_or_insert_default().push(ROOT.to_owned());
        }
        self
    }

    /// With what a request grants, revokes, and the hash of its password, if it brings one.
    pub(super) fn merged(&self, request: &Self, hash: Option<&str>) -> Result<Self, Refused> {
        let Self { name, .. } = request;
        if self.name != *name {
            let text = format!("Merging user data with conflicting usernames: {} {name}", self.name);
            return Err((CONFLICT, text));
        }
        let mut roles: BTreeSet<&String> = entries(&self.roles).collect();
        for role in entries(&request.grant) {
            if !roles.insert(role) {
                return Err((CONFLICT, format!("Granting duplicate role {role} for user {name}")));
            }
        }
        for role in entries(&request.revoke) {
            if !roles.remove(role) {
                return Err((CONFLICT, format!("Revoking ungranted role {role} for user {name}")));
            }
        }
        let merged = Self {
            name: name.clone(),
            password: hash.unwrap_or(&self.password).to_owned(),
            roles: Some(roles.into_iter().cloned().collect()),
            grant: None,
            revoke: None,
        };
        if merged == *self {
            return Err((BAD_REQUEST, "User not updated. Use grant/revoke/password to update the user.".to_owned()));
        }
        Ok(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(role: &Role) -> String {
        let mut out = Vec::new();
        role.put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn documents_are_read_and_written_as_go_does() {
        let role = Role::read(br#"{"ROLE":"a<b","permissions":{"kv":{"read":["/x*"]}},"grant":{}} trailing"#).unwrap();
        let want = r#"{"role":"a\u003cb","permissions":{"kv":{"read":["/x*"],"write":null}},"grant":{"kv":{"read":null,"write":null}}}"#;
        assert_eq!(shown(&role), want);
        for refused in [&b""[..], b"[]", b"x", br#"{"role":1}"#, br#"{"permissions":[]}"#, b"{"] {
            assert_eq!(Role::read(refused), Err(Malformed), "{refused:?}");
        }
        assert_eq!(Role::read(b"null"), Ok(Role::default()));
        let user = User { password: "hash".to_owned(), ..User::read(br#"{"user":"u","roles":[]}"#).unwrap() };
        let (mut stored, mut told) = (Vec::new(), Vec::new());
        user.put(&mut stored, true);
        user.put(&mut told, false);
        assert_eq!(stored, br#"{"user":"u","password":"hash","roles":[]}"#);
        assert_eq!(told, br#"{"user":"u","roles":[]}"#);
        assert_eq!(User::read(&stored), Ok(user));
    }

    #[test]
    fn only_what_is_granted_is_allowed() {
        let role =
            Role::read(br#"{"role":"r","permissions":{"kv":{"read":["/a","/b*",""],"write":["/c/*"]}}}"#).unwrap();
        let cases: [(&[u8], bool, bool, bool); 10] = [
            (b"/a", false, false, true),
            (b"/a", false, true, false),
            (b"/a/x", false, false, false),
            (b"/a", true, false, false),
            (b"/bcd", false, true, true),
            (b"/c/d", true, false, true),
            (b"/c", true, false, false),
            (b"/c/d", false, false, false),
            (b"", false, false, false),
            (b"/*", false, false, false),
        ];
        for (key, write, recursive, want) in cases {
            assert_eq!(role.allows(key, write, recursive), want, "{key:?} {write} {recursive}");
        }
        assert!(Role::root().allows(b"", true, true) && Role::guest().allows(b"/x", true, true));
    }

    #[test]
    fn grants_are_sorted_and_told_once() {
        let role = Role::read(br#"{"role":"r"}"#).unwrap();
        let request = |text: &str| Role::read(text.as_bytes()).unwrap();
        let grant = request(r#"{"role":"r","grant":{"kv":{"read":["/b","/a"]}}}"#);
        let merged = role.merged(&grant).unwrap();
        assert_eq!(shown(&merged), r#"{"role":"r","permissions":{"kv":{"read":["/a","/b"],"write":[]}}}"#);
        assert_eq!(merged.merged(&grant).unwrap_err(), (409, "Granting duplicate read permission /b".to_owned()));
        let revoke = request(r#"{"role":"r","revoke":{"kv":{"read":["/a","/none"]}}}"#);
        assert_eq!(merged.merged(&revoke).unwrap().held.read, Some(vec!["/b".to_owned()]));
        let nothing = request(r#"{"role":"r","revoke":{"kv":{"write":["/none"]}}}"#);
        assert_eq!(merged.merged(&nothing).unwrap_err().0, 400);
    }

    #[test]
    fn users_are_merged_and_root_is_root() {
        let user = User::read(br#"{"user":"u","password":"h"}"#).unwrap();
        let request = |text: &str| User::read(text.as_bytes()).unwrap();
        let merged = user.merged(&request(r#"{"user":"u","grant":["b","a"]}"#), None).unwrap();
        assert_eq!(merged.roles, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(merged.merged(&request(r#"{"user":"u","grant":["a"]}"#), None).unwrap_err().0, 409);
        assert_eq!(merged.merged(&request(r#"{"user":"u","revoke":["c"]}"#), None).unwrap_err().0, 409);
        assert_eq!(merged.merged(&request(r#"{"user":"u"}"#), None).unwrap_err().0, 400);
        assert_eq!(merged.merged(&request(r#"{"user":"u"}"#), Some("i")).unwrap().password, "i");
        let root = User { name: ROOT.to_owned(), ..User::default() };
        assert!(root.with_root_role().holds(ROOT) && !user.with_root_role().holds(ROOT));
    }
}
