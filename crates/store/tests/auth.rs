//! Users and roles against a model that is too simple to be wrong: names in maps, and permissions that are asked for one
//! key at a time.
//!
//! Random changes by random callers go to a store that restarts and is replaced by its own snapshot, and to the model;
//! answers, the whole view, and what users may read and write are compared. Each failure names its seed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use quorate_proto::authpb::{Permission, UserAddOptions};
use quorate_proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
    AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, DeleteRangeRequest, RangeRequest,
};
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{Caller, Command, CommandBatch};
use quorate_store::auth::{Act, AuthError};
use quorate_store::error::Error;
use quorate_store::memory_disk::{MemoryDisk, SeededRandom};
use quorate_store::revlog::RevLogConfig;
use quorate_store::store::{Bootstrap, Store, StoreConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const CASES: u64 = 60;
const STEPS: usize = 150;
const USERS: [&str; 4] = ["root", "a", "b", ""];
const ROLES: [&str; 4] = ["root", "r", "s", ""];

#[derive(Clone, Debug, Default, PartialEq)]
struct User {
    no_password: bool,
    hash: Bytes,
    roles: BTreeSet<String>,
    identity_revision: u64,
    grants_revision: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Model {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Vec<Permission>>,
}

impl Model {
    fn is_root(&self, user: &str) -> bool {
        self.users.get(user).is_some_and(|user| user.roles.contains("root"))
    }

    fn apply(&mut self, caller: Option<&Caller>, operation: &Operation) -> Result<(), AuthError> {
        if self.enabled {
            let caller = caller.ok_or(AuthError::UserEmpty)?;
            let user = self.users.get(&caller.user).ok_or(AuthError::UserNotFound)?;
            if caller.auth_revision < user.identity_revision {
                return Err(AuthError::AuthOldRevision);
            }
            if !self.is_root(&caller.user) {
                return Err(AuthError::PermissionDenied);
            }
        }
        let mut next = self.clone();
        next.revision += 1;
        if next.change(operation)? {
            *self = next;
        }
        Ok(())
    }

    /// Answers whether anything is another; `revision` is the one that it will have.
    fn change(&mut self, operation: &Operation) -> Result<bool, AuthError> {
        let revision = self.revision;
        match operation {
            Operation::AuthEnable(_) => {
                if self.enabled {
                    return Ok(false);
                }
                if !self.users.contains_key("root") {
                    return Err(AuthError::RootUserNotExist);
                }
                if !self.is_root("root") {
                    return Err(AuthError::RootRoleNotExist);
                }
                self.enabled = true;
                self.revision -= 1;
            }
            Operation::AuthDisable(_) => {
                if !self.enabled {
                    return Ok(false);
                }
                self.enabled = false;
                self.users.values_mut().for_each(|user| user.identity_revision = revision);
            }
            Operation::AuthUserAdd(request) => {
                if request.name.is_empty() {
                    return Err(AuthError::UserEmpty);
                }
                if self.users.contains_key(&request.name) {
                    return Err(AuthError::UserAlreadyExist);
                }
                let no_password = request.options.as_ref().unwrap().no_password;
                let hash = if no_password { Vec::new() } else { STANDARD.decode(&request.hashed_password).unwrap() };
                let user = User {
                    no_password,
                    hash: hash.into(),
                    roles: BTreeSet::new(),
                    identity_revision: revision,
                    grants_revision: revision,
                };
                self.users.insert(request.name.clone(), user);
            }
            Operation::AuthUserDelete(request) => {
                if self.enabled && request.name == "root" {
                    return Err(AuthError::InvalidAuthManagement);
                }
                self.users.remove(&request.name).ok_or(AuthError::UserNotFound)?;
            }
            Operation::AuthUserChangePassword(request) => {
                let user = self.users.get_mut(&request.name).ok_or(AuthError::UserNotFound)?;
                if !user.no_password {
                    user.hash = STANDARD.decode(&request.hashed_password).unwrap().into();
                }
                user.identity_revision = revision;
            }
            Operation::AuthUserGrantRole(request) => {
                let user = self.users.get_mut(&request.user).ok_or(AuthError::UserNotFound)?;
                if request.role != "root" && !self.roles.contains_key(&request.role) {
                    return Err(AuthError::RoleNotFound);
                }
                user.grants_revision = revision;
                return Ok(user.roles.insert(request.role.clone()));
            }
            Operation::AuthUserRevokeRole(request) => {
                if self.enabled && request.name == "root" && request.role == "root" {
                    return Err(AuthError::InvalidAuthManagement);
                }
                let user = self.users.get_mut(&request.name).ok_or(AuthError::UserNotFound)?;
                if !user.roles.remove(&request.role) {
                    return Err(AuthError::RoleNotGranted);
                }
                user.grants_revision = revision;
            }
            Operation::AuthRoleAdd(request) => {
                if request.name.is_empty() {
                    return Err(AuthError::RoleEmpty);
                }
                if self.roles.contains_key(&request.name) {
                    return Err(AuthError::RoleAlreadyExist);
                }
                self.roles.insert(request.name.clone(), Vec::new());
                self.touch(&request.name);
            }
            Operation::AuthRoleDelete(request) => {
                if self.enabled && request.role == "root" {
                    return Err(AuthError::InvalidAuthManagement);
                }
                self.roles.remove(&request.role).ok_or(AuthError::RoleNotFound)?;
                self.touch(&request.role);
                self.users.values_mut().for_each(|user| {
                    user.roles.remove(&request.role);
                });
            }
            Operation::AuthRoleGrantPermission(request) => {
                let permission = request.perm.as_ref().ok_or(AuthError::PermissionNotGiven)?;
                let (key, end) = (&permission.key, &permission.range_end);
                if key.is_empty() || !(end.is_empty() || end[..] == [0] || key < end) {
                    return Err(AuthError::InvalidAuthManagement);
                }
                let role = self.roles.get_mut(&request.name).ok_or(AuthError::RoleNotFound)?;
                match role.iter_mut().find(|held| held.key == key && held.range_end == end) {
                    Some(held) => held.perm_type = permission.perm_type,
                    None => role.push(permission.clone()),
                }
                role.sort_by(|left, right| left.key.cmp(&right.key));
                self.touch(&request.name);
            }
            Operation::AuthRoleRevokePermission(request) => {
                let role = self.roles.get_mut(&request.role).ok_or(AuthError::RoleNotFound)?;
                let before = role.len();
                role.retain(|held| held.key != request.key || held.range_end != request.range_end);
                if role.len() == before {
                    return Err(AuthError::PermissionNotGranted);
                }
                self.touch(&request.role);
            }
            other => unreachable!("{other:?} is no change of users and roles"),
        }
        Ok(true)
    }

    fn touch(&mut self, role: &str) {
        let revision = self.revision;
        let holders = self.users.values_mut().filter(|user| user.roles.contains(role));
        holders.for_each(|user| user.grants_revision = revision);
    }

    /// Whether a user may do it with one key. Type 0 reads, 1 writes, 2 does both.
    fn permits(&self, user: &str, wanted: i32, key: &[u8]) -> bool {
        let roles = self.users[user].roles.iter().filter_map(|role| self.roles.get(role));
        roles
            .flatten()
            .any(|held| (held.perm_type == wanted || held.perm_type == 2) && holds(&held.key, &held.range_end, key))
    }
}

/// Whether a range as the wire names it holds a key.
fn holds(start: &[u8], end: &[u8], key: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        end => key >= start && key < end,
    }
}

/// The keys that the model asks about: every end of a range that is drawn, and what comes right behind it.
fn keys() -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for letter in b'a'..=b'f' {
        keys.push(vec![letter]);
        keys.push(vec![letter, 0]);
    }
    keys
}

fn draw_range(random: &mut SeededRandom) -> (Bytes, Bytes) {
    let letter = |random: &mut SeededRandom| Bytes::from(vec![b'a' + random.below(6) as u8]);
    let key = letter(random);
    let end = match random.below(6) {
        0 | 1 => Bytes::new(),
        2 => Bytes::from_static(&[0]),
        _ => letter(random),
    };
    (key, end)
}

fn draw(random: &mut SeededRandom) -> Operation {
    let user = USERS[random.below(4) as usize].to_owned();
    let role = ROLES[random.below(4) as usize].to_owned();
    let hashed_password = STANDARD.encode(random.below(100).to_string());
    match random.below(24) {
        0..3 => Operation::AuthEnable(AuthEnableRequest {}),
        3 => Operation::AuthDisable(AuthDisableRequest {}),
        4..7 => {
            let options = Some(UserAddOptions { no_password: random.one_in(3) });
            let request = AuthUserAddRequest { name: user, options, hashed_password, password: String::new() };
            Operation::AuthUserAdd(request)
        }
        7 => Operation::AuthUserDelete(AuthUserDeleteRequest { name: user }),
        8 => Operation::AuthUserChangePassword(AuthUserChangePasswordRequest {
            name: user,
            hashed_password,
            password: String::new(),
        }),
        9..13 => Operation::AuthUserGrantRole(AuthUserGrantRoleRequest { user, role }),
        13 => Operation::AuthUserRevokeRole(AuthUserRevokeRoleRequest { name: user, role }),
        14..16 => Operation::AuthRoleAdd(AuthRoleAddRequest { name: role }),
        16 => Operation::AuthRoleDelete(AuthRoleDeleteRequest { role }),
        17..22 => {
            let (key, range_end) = draw_range(random);
            let perm = Some(Permission { perm_type: random.below(3) as i32, key, range_end });
            Operation::AuthRoleGrantPermission(AuthRoleGrantPermissionRequest { name: role, perm })
        }
        _ => {
            let (key, range_end) = draw_range(random);
            Operation::AuthRoleRevokePermission(AuthRoleRevokePermissionRequest { role, key, range_end })
        }
    }
}

fn open(disk: &Arc<MemoryDisk>) -> Store {
    let config = StoreConfig { revlog: RevLogConfig { segment_bytes: 512, buffer_bytes: 128 } };
    Store::open(disk.clone(), "store", config, Bootstrap::default()).unwrap()
}

/// What the store says of users and roles, in the model's words.
fn read_back(store: &Store) -> Model {
    let view = store.reader().auth();
    assert_eq!((store.reader().auth_enabled(), store.reader().auth_revision()), (view.enabled(), view.revision()));
    let users = view.users().map(|(name, user)| {
        let read = User {
            no_password: user.no_password(),
            hash: user.password_hash().clone(),
            roles: user.roles().iter().cloned().collect(),
            identity_revision: user.identity_revision(),
            grants_revision: user.grants_revision(),
        };
        assert!(user.roles().is_sorted());
        (name.to_owned(), read)
    });
    let roles = view.roles().map(|(name, role)| (name.to_owned(), role.permissions().to_vec()));
    Model { enabled: view.enabled(), revision: view.revision(), users: users.collect(), roles: roles.collect() }
}

/// What users who have just logged in may do with ranges is what they may do with each key of them.
fn compare_permissions(store: &Store, model: &Model, random: &mut SeededRandom, seed: u64) {
    let reader = store.reader();
    for user in model.users.keys() {
        let caller = Caller { user: user.clone(), auth_revision: model.revision, cluster: false };
        let (key, range_end) = draw_range(random);
        let inside = || keys().into_iter().filter(|inside| holds(&key, &range_end, inside));
        if inside().next().is_none() {
            continue;
        }
        let expected = |wanted| model.is_root(user) || inside().all(|inside| model.permits(user, wanted, &inside));
        let read = RangeRequest { key: key.clone(), range_end: range_end.clone(), ..RangeRequest::default() };
        let write = DeleteRangeRequest { key: key.clone(), range_end: range_end.clone(), prev_kv: false };
        let answered = |act: Act<'_>| match reader.authorize(Some(&caller), act) {
            Ok(()) => true,
            Err(AuthError::PermissionDenied) => false,
            Err(other) => panic!("seed {seed}: {other}"),
        };
        assert_eq!(answered(Act::Range(&read)), expected(0), "seed {seed}: {user} reads {read:?} of {model:?}");
        assert_eq!(
            answered(Act::DeleteRange(&write)),
            expected(1),
            "seed {seed}: {user} writes {write:?} of {model:?}"
        );
    }
}

fn run(seed: u64) -> (usize, usize) {
    let mut random = SeededRandom::new(seed);
    let mut disk = Arc::new(MemoryDisk::new());
    let mut store = open(&disk);
    let mut model = Model { enabled: false, revision: 1, users: BTreeMap::new(), roles: BTreeMap::new() };
    let (mut done, mut refused) = (0, 0);
    for step in 1..=STEPS as u64 {
        let operation = draw(&mut random);
        let caller = match random.below(8) {
            0 => None,
            1 => Some((USERS[1 + random.below(2) as usize], 0)),
            2 => Some(("root", random.below(8))),
            _ => Some(("root", 0)),
        };
        let caller = caller.map(|(user, before)| Caller {
            user: user.to_owned(),
            auth_revision: model.revision.saturating_sub(before).max(1),
            cluster: false,
        });
        let expected = model.apply(caller.as_ref(), &operation);
        let command = Command { id: step, operation: Some(operation.clone()), caller };
        let batch = CommandBatch { commands: vec![command] }.encode_to_vec();
        let mut outcome = store.apply_commands(step, 1, batch.into(), &|_| true).unwrap();
        let answered = outcome.replies.remove(0).1.map(|reply| assert_eq!(reply.revision, 1));
        assert_eq!(answered, expected.map_err(Error::Auth), "seed {seed}, step {step}: {operation:?} of {model:?}");
        *if expected.is_ok() { &mut done } else { &mut refused } += 1;
        assert_eq!(read_back(&store), model, "seed {seed}, step {step}: {operation:?}");
        if model.enabled {
            compare_permissions(&store, &model, &mut random, seed);
        }
        let digest = store.reader().stats().digest;
        match random.below(20) {
            0 => {
                store.close().unwrap();
                store = open(&disk);
            }
            1 => {
                let mut source = store.snapshot().unwrap().source().unwrap();
                let other_disk = Arc::new(MemoryDisk::new());
                let mut other = open(&other_disk);
                let mut sink = other.receive().unwrap();
                while let Some(piece) = source.next().unwrap() {
                    sink.write(&piece).unwrap();
                }
                let received = sink.finish().unwrap();
                other.install(received).unwrap();
                (disk, store) = (other_disk, other);
            }
            _ => continue,
        }
        assert_eq!(store.reader().stats().digest, digest, "seed {seed}, step {step}");
        assert_eq!(read_back(&store), model, "seed {seed}, step {step}, after a restart or a snapshot");
    }
    (done, refused)
}

#[test]
fn users_and_roles_are_what_the_model_says() {
    let (mut done, mut refused) = (0, 0);
    for seed in 0..CASES {
        let counts = run(seed);
        done += counts.0;
        refused += counts.1;
    }
    assert!(done > 1_000 && refused > 1_000, "both happen: {done} and {refused}");
}
