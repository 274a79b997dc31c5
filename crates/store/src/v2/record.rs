//! The tree in checkpoints and snapshots.

use super::event::{Action, Event, Image};
use super::history::History;
use super::node::{Content, Node};
use super::path::{join, split};
use super::tree::Tree;
use bytes::Bytes;
use quorate_proto::etcdserverpb::Member;
use quorate_proto::quoratepb::{V2Event, V2Node, V2Record};
use std::sync::Arc;

/// The tree of a new cluster: as in etcd, each first member counts as a change.
pub(crate) fn first_record(members: &[Member]) -> V2Record {
    let mut tree = Tree::load(None);
    for member in members {
        tree.note(member_path(member.id));
    }
    tree.record()
}

/// Where etcd keeps a member's record.
pub(super) fn member_path(id: u64) -> Bytes {
    join(b"/0/members", format!("{id:x}").as_bytes()).into()
}

impl Tree {
    /// As a checkpoint recorded it.
    pub(crate) fn load(record: Option<&V2Record>) -> Self {
        let mut tree = Self::empty();
        let Some(record) = record else {
            return tree;
        };
        for node in &record.nodes {
            let (parent, name) = split(&node.path);
            let content = if node.dir {
                Content::Directory(Box::default())
            } else {
                Content::File(Bytes::copy_from_slice(&node.value))
            };
            let loaded = Node {
                content,
                modified_index: node.modified_index,
                created_index: node.created_index,
                expiration_ns: node.expiration_ns,
            };
            tree.load_node(parent, name, loaded, &node.path);
        }
        let mut history = History::default();
        for event in &record.events {
            history.add(Arc::new(event_of(event)));
        }
        tree.finish_load(record.index, history);
        tree
    }

    /// For a checkpoint.
    pub(crate) fn record(&self) -> V2Record {
        let mut nodes = Vec::new();
        self.walk(&mut |path, node| {
            nodes.push(V2Node {
                path: Bytes::copy_from_slice(path),
                dir: node.is_directory(),
                value: node.value().cloned().unwrap_or_default(),
                modified_index: node.modified_index,
                created_index: node.created_index,
                expiration_ns: node.expiration_ns,
                ttl_s: 0,
            });
        });
        let events = self.history().iter().map(|event| record_of(event)).collect();
        V2Record { index: self.index(), nodes, events }
    }
}

fn event_of(event: &V2Event) -> Event {
    let image = |node: &V2Node| Image {
        path: Bytes::copy_from_slice(&node.path),
        value: (!node.dir).then(|| Bytes::copy_from_slice(&node.value)),
        dir: node.dir,
        expiration_ns: (node.expiration_ns != 0).then_some(node.expiration_ns),
        ttl_s: node.ttl_s,
        modified_index: node.modified_index,
        created_index: node.created_index,
        children: Vec::new(),
    };
    let mut node = event.node.as_ref().map(image).unwrap_or_default();
    if event.no_value {
        node.value = None;
    }
    Event {
        // A name that this release does not know is at least a change.
        action: Action::of_name(&event.action).unwrap_or(Action::Set),
        node,
        prev_node: event.prev_node.as_ref().map(image),
        refresh: event.refresh,
    }
}

fn record_of(event: &Event) -> V2Event {
    let node = |image: &Image| V2Node {
        path: image.path.clone(),
        dir: image.dir,
        value: image.value.clone().unwrap_or_default(),
        modified_index: image.modified_index,
        created_index: image.created_index,
        expiration_ns: image.expiration_ns.unwrap_or(0),
        ttl_s: image.ttl_s,
    };
    V2Event {
        action: event.action.name().to_owned(),
        node: Some(node(&event.node)),
        prev_node: event.prev_node.as_ref().map(node),
        refresh: event.refresh,
        no_value: event.node.value.is_none() && !event.node.dir,
    }
}
