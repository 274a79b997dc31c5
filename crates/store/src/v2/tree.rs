//! The tree's operations: what each one does, and why it may not. The same on every member.

use super::event::{Action, Event, Image};
use super::fault::{Code, Fault};
use super::history::History;
use super::node::{Content, Depth, Node};
use super::path::{ancestry, clean, join, names, split};
use super::record::member_path;
use super::{Answer, Hub, KEYS, Stats};
use bytes::Bytes;
use quorate_proto::quoratepb::V2Change;
use quorate_proto::quoratepb::v2_change::Method;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What dies before it (2000-01-01) does not die: a time that overflowed on its way here.
const EXPIRATION_NS_MIN: i64 = 946_684_800_000_000_000;
/// Digits of an in-order key.
const IN_ORDER_DIGITS: usize = 20;

/// The replicated tree.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Node,
    index: u64,
    /// Of every node that dies: when, and where.
    deadlines: BTreeSet<(i64, Box<[u8]>)>,
    history: History,
}

/// What a change sets.
struct Wanted<'a> {
    path: &'a [u8],
    value: &'a Bytes,
    dir: bool,
    refresh: bool,
    /// 0: never.
    expiration_ns: i64,
    now_ns: i64,
}

/// What an event took away, for those who watch below it.
type Removed = Option<Node>;

impl Tree {
    pub(super) fn empty() -> Self {
        let mut root = Node::directory(0);
        let children = root.children_mut().expect("the root is a directory");
        children.insert(KEYS[1..].into(), Node::directory(0));
        Self { root, index: 0, deadlines: BTreeSet::new(), history: History::default() }
    }

    pub(super) fn load_node(&mut self, parent: &[u8], name: &[u8], node: Node, path: &[u8]) {
        if node.expiration_ns != 0 {
            self.deadlines.insert((node.expiration_ns, path.into()));
        }
        // The tree's first parts exist in every tree; a record without a node's parent cannot be written.
        if let Some(children) = self.find_mut(parent).and_then(Node::children_mut) {
            children.entry(name.into()).or_insert(node);
        }
    }

    pub(super) fn finish_load(&mut self, index: u64, history: History) {
        self.index = index;
        self.history = history;
    }

    /// Everything but the root, parents first.
    pub(super) fn walk(&self, visit: &mut dyn FnMut(&[u8], &Node)) {
        for (name, child) in self.root.children().into_iter().flatten() {
            child.walk(&join(b"/", name), visit);
        }
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// The newest change's.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// When the next node dies, ns since 1970.
    pub(crate) fn next_deadline_ns(&self) -> Option<i64> {
        self.deadlines.first().map(|&(deadline_ns, _)| deadline_ns)
    }

    fn fault(&self, code: Code, cause: impl Into<Vec<u8>>) -> Fault {
        Fault { code, cause: cause.into(), index: self.index }
    }

    fn find_mut(&mut self, path: &[u8]) -> Option<&mut Node> {
        let mut node = &mut self.root;
        for name in names(path) {
            node = node.children_mut()?.get_mut(name)?;
        }
        Some(node)
    }

    /// The node of a clean path.
    fn find(&self, path: &[u8]) -> Result<&Node, Fault> {
        let mut node = &self.root;
        let mut parent: &[u8] = b"/";
        for own in ancestry(path).skip(1) {
            let Some(children) = node.children() else {
                return Err(self.fault(Code::NotDirectory, parent));
            };
            let Some(child) = children.get(split(own).1) else {
                return Err(self.fault(Code::KeyNotFound, own));
            };
            (node, parent) = (child, own);
        }
        Ok(node)
    }

    /// What only exists as a whole.
    fn check_writable(&self, path: &[u8]) -> Result<(), Fault> {
        if path == b"/" || path == KEYS {
            return Err(self.fault(Code::RootReadOnly, *b"/"));
        }
        Ok(())
    }

    /// Reads a node.
    pub(crate) fn get(&self, path: &[u8], recursive: bool, now_ns: i64) -> Result<Image, Fault> {
        let path = clean(path);
        let depth = if recursive { Depth::All } else { Depth::Children };
        Ok(self.find(&path)?.image(&path, depth, now_ns))
    }

    /// Makes a change that a client asked for, and wakes whoever waits for it.
    pub(crate) fn change(&mut self, change: &V2Change, hub: &Hub, stats: &Stats) -> Answer {
        let path = clean(&change.path);
        let wanted = Wanted {
            path: &path,
            value: &change.value,
            dir: change.dir,
            refresh: change.refresh,
            expiration_ns: if change.expiration_ns < EXPIRATION_NS_MIN { 0 } else { change.expiration_ns },
            now_ns: change.time_ns,
        };
        let compares = change.prev_index > 0 || !change.prev_value.is_empty();
        let (action, done) = match (change.method(), change.prev_exist) {
            (Method::Post, _) => (Action::Create, self.create_in_order(&wanted)),
            (Method::Put, Some(false)) => (Action::Create, self.create(&wanted, Action::Create)),
            (Method::Put, Some(true)) if !compares => (Action::Update, self.update(&wanted)),
            (Method::Put, _) if compares => (Action::CompareAndSwap, self.compare_and_swap(&wanted, change)),
            (Method::Put, _) => (Action::Set, self.set(&wanted)),
            (Method::Delete, _) if compares => (Action::CompareAndDelete, self.compare_and_delete(&wanted, change)),
            (Method::Delete, _) => (Action::Delete, self.delete(&wanted, change.recursive)),
        };
        stats.count(action, done.is_ok());
        let outcome = done.map(|(event, removed)| self.record_event(event, removed.as_ref(), hub));
        Answer { index: self.index, outcome }
    }

    /// Removes what was to die by `now_ns`, the earliest first.
    pub(crate) fn expire(&mut self, now_ns: i64, hub: &Hub, stats: &Stats) -> Vec<Arc<Event>> {
        let mut events = Vec::new();
        while let Some((deadline_ns, path)) = self.deadlines.first().cloned()
            && deadline_ns <= now_ns
        {
            let node = self.take(&path).expect("deadlines name only nodes of the tree");
            let event = self.removal(Action::Expire, &path, &node, now_ns);
            stats.count(Action::Expire, true);
            events.push(self.record_event(event, Some(&node), hub));
        }
        events
    }

    /// A change of what etcd keeps in the same tree and this store elsewhere: the index counts it.
    pub(crate) fn note_member(&mut self, id: u64) {
        self.note(member_path(id));
    }

    /// See [`Self::note_member`].
    pub(crate) fn note_version(&mut self) {
        self.note(Bytes::from_static(b"/0/version"));
    }

    pub(super) fn note(&mut self, path: Bytes) {
        self.index += 1;
        let node = Image { path, modified_index: self.index, created_index: self.index, ..Image::default() };
        self.history.add(Arc::new(Event { action: Action::Set, node, prev_node: None, refresh: false }));
    }

    fn record_event(&mut self, event: Event, removed: Option<&Node>, hub: &Hub) -> Arc<Event> {
        self.index += 1;
        assert_eq!(event.index(), self.index, "an event bears the index that it makes");
        let event = Arc::new(event);
        self.history.add(event.clone());
        if !event.refresh {
            hub.notify(&event, removed);
        }
        event
    }

    // --- Operations: each answers the event of the next index, with the tree changed, or leaves it alone ---

    fn set(&mut self, wanted: &Wanted<'_>) -> Result<(Event, Removed), Fault> {
        let kept = match self.find(wanted.path) {
            Ok(node) if wanted.refresh => node.value().cloned().unwrap_or_default(),
            Err(fault) if wanted.refresh || fault.code != Code::KeyNotFound => return Err(fault),
            _ => wanted.value.clone(),
        };
        let (mut event, removed) = self.create(&Wanted { value: &kept, ..*wanted }, Action::Set)?;
        event.refresh = wanted.refresh;
        Ok((event, removed))
    }

    fn create_in_order(&mut self, wanted: &Wanted<'_>) -> Result<(Event, Removed), Fault> {
        let name = format!("{:0width$}", self.index + 1, width = IN_ORDER_DIGITS);
        let path = join(wanted.path, name.as_bytes());
        self.create(&Wanted { path: &path, ..*wanted }, Action::Create)
    }

    /// Makes a node with the directories on the way; a set replaces a file.
    fn create(&mut self, wanted: &Wanted<'_>, action: Action) -> Result<(Event, Removed), Fault> {
        let path = wanted.path;
        self.check_writable(path)?;
        let prev_node = match self.find(path) {
            Ok(node) if action == Action::Set && !node.is_directory() => {
                Some(node.image(path, Depth::Node, wanted.now_ns))
            }
            Ok(_) if action == Action::Set => return Err(self.fault(Code::NotFile, path)),
            Ok(_) => return Err(self.fault(Code::NodeExists, path)),
            Err(fault) if fault.code == Code::KeyNotFound => None,
            Err(fault) => return Err(fault),
        };
        if prev_node.is_some() {
            self.take(path);
        }
        let next = self.index + 1;
        let content = if wanted.dir {
            Content::Directory(Box::default())
        } else {
            // A copy: the command's bytes are a part of its whole batch.
            Content::File(Bytes::copy_from_slice(wanted.value))
        };
        let node = Node { content, modified_index: next, created_index: next, expiration_ns: wanted.expiration_ns };
        let image = node.image(path, Depth::Node, wanted.now_ns);
        if node.expiration_ns != 0 {
            self.deadlines.insert((node.expiration_ns, path.into()));
        }
        let (parent, name) = split(path);
        let mut at = &mut self.root;
        for name in names(parent) {
            let children = at.children_mut().expect("find went this way");
            at = children.entry(name.into()).or_insert_with(|| Node::directory(next));
        }
        at.children_mut().expect("find went this way").insert(name.into(), node);
        Ok((Event { action, node: image, prev_node, refresh: false }, None))
    }

    fn update(&mut self, wanted: &Wanted<'_>) -> Result<(Event, Removed), Fault> {
        self.check_writable(wanted.path)?;
        if self.find(wanted.path)?.is_directory() && !wanted.value.is_empty() {
            return Err(self.fault(Code::NotFile, wanted.path));
        }
        Ok((self.write(wanted, Action::Update), None))
    }

    fn compare_and_swap(&mut self, wanted: &Wanted<'_>, change: &V2Change) -> Result<(Event, Removed), Fault> {
        self.check_writable(wanted.path)?;
        self.compare(wanted.path, change)?;
        Ok((self.write(wanted, Action::CompareAndSwap), None))
    }

    fn compare_and_delete(&mut self, wanted: &Wanted<'_>, change: &V2Change) -> Result<(Event, Removed), Fault> {
        self.compare(wanted.path, change)?;
        Ok(self.remove(Action::CompareAndDelete, wanted))
    }

    fn delete(&mut self, wanted: &Wanted<'_>, recursive: bool) -> Result<(Event, Removed), Fault> {
        self.check_writable(wanted.path)?;
        if let Some(children) = self.find(wanted.path)?.children() {
            if !wanted.dir && !recursive {
                return Err(self.fault(Code::NotFile, wanted.path));
            }
            if !children.is_empty() && !recursive {
                return Err(self.fault(Code::DirectoryNotEmpty, wanted.path));
            }
        }
        Ok(self.remove(Action::Delete, wanted))
    }

    fn compare(&self, path: &[u8], change: &V2Change) -> Result<(), Fault> {
        let node = self.find(path)?;
        let Some(value) = node.value() else {
            return Err(self.fault(Code::NotFile, path));
        };
        let index_fits = change.prev_index == 0 || node.modified_index == change.prev_index;
        let value_fits = change.prev_value.is_empty() || *value == change.prev_value;
        if index_fits && value_fits {
            return Ok(());
        }
        let values = [&b"["[..], &change.prev_value, b" != ", value, b"]"].concat();
        let indexes = format!("[{} != {}]", change.prev_index, node.modified_index).into_bytes();
        let cause = match (value_fits, index_fits) {
            (true, _) => indexes,
            (_, true) => values,
            _ => [&values[..], b" ", &indexes].concat(),
        };
        Err(self.fault(Code::TestFailed, cause))
    }

    /// Changes a node that is there in place. A directory's own index stays, as in etcd.
    fn write(&mut self, wanted: &Wanted<'_>, action: Action) -> Event {
        let next = self.index + 1;
        let Wanted { path, value, refresh, expiration_ns, now_ns, .. } = *wanted;
        let node = self.find_mut(path).expect("found before");
        let prev_node = Some(node.image(path, Depth::Node, now_ns));
        let before_ns = std::mem::replace(&mut node.expiration_ns, expiration_ns);
        if let Content::File(content) = &mut node.content {
            node.modified_index = next;
            if !refresh {
                *content = Bytes::copy_from_slice(value);
            }
        }
        let image = Image { modified_index: next, ..node.image(path, Depth::Node, now_ns) };
        self.move_deadline(path, before_ns, expiration_ns);
        Event { action, node: image, prev_node, refresh }
    }

    fn move_deadline(&mut self, path: &[u8], before_ns: i64, after_ns: i64) {
        if before_ns == after_ns {
            return;
        }
        if before_ns != 0 {
            self.deadlines.remove(&(before_ns, path.into()));
        }
        if after_ns != 0 {
            self.deadlines.insert((after_ns, path.into()));
        }
    }

    fn remove(&mut self, action: Action, wanted: &Wanted<'_>) -> (Event, Removed) {
        let node = self.take(wanted.path).expect("found before");
        let event = self.removal(action, wanted.path, &node, wanted.now_ns);
        (event, Some(node))
    }

    fn removal(&self, action: Action, path: &[u8], node: &Node, now_ns: i64) -> Event {
        let prev_node = node.image(path, Depth::Node, now_ns);
        let node = Image {
            path: prev_node.path.clone(),
            dir: prev_node.dir,
            modified_index: self.index + 1,
            created_index: prev_node.created_index,
            ..Image::default()
        };
        Event { action, node, prev_node: Some(prev_node), refresh: false }
    }

    /// Takes a node out with everything below it, and their deadlines.
    fn take(&mut self, path: &[u8]) -> Option<Node> {
        let (parent, name) = split(path);
        let node = self.find_mut(parent)?.children_mut()?.remove(name)?;
        let deadlines = &mut self.deadlines;
        node.walk(path, &mut |path, node| {
            if node.expiration_ns != 0 {
                deadlines.remove(&(node.expiration_ns, path.into()));
            }
        });
        Some(node)
    }
}
