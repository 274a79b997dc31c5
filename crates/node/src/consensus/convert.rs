//! Between raft's types and ours, and what is checked at that border.
//!
//! Raft's own decoder never sees bytes from the network: messages arrive as ours, are checked here, and only then become
//! raft's. Invariant: an append whose entries do not follow its own position passes in neither direction.

use bytes::Bytes;
use prost::Message as _;
use quorate_proto::quoratepb::{ConfState, LogEntry, RaftMessage, SnapshotMeta};
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, Entry, EntryType, Message, MessageType,
    Snapshot,
};

/// Entries of one append message together at the most, bytes.
pub(crate) const APPEND_BYTES_MAX: usize = 1 << 20;

/// The numbers of the message types on the wire are raft's own.
const MESSAGE_TYPES: [MessageType; 12] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// Members in ascending order, since raft's own order differs from member to member.
pub(crate) fn conf_state_from_raft(conf_state: &raft::eraftpb::ConfState) -> ConfState {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    ConfState {
        voters: sorted(&conf_state.voters),
        learners: sorted(&conf_state.learners),
        voters_outgoing: sorted(&conf_state.voters_outgoing),
        learners_next: sorted(&conf_state.learners_next),
        auto_leave: conf_state.auto_leave,
    }
}

/// The same, for raft.
pub(crate) fn conf_state_to_raft(conf_state: &ConfState) -> raft::eraftpb::ConfState {
    let mut raft_conf_state = raft::eraftpb::ConfState::default();
    raft_conf_state.voters = conf_state.voters.clone();
    raft_conf_state.learners = conf_state.learners.clone();
    raft_conf_state.voters_outgoing = conf_state.voters_outgoing.clone();
    raft_conf_state.learners_next = conf_state.learners_next.clone();
    raft_conf_state.auto_leave = conf_state.auto_leave;
    raft_conf_state
}

/// An entry for the log and the wire; shares the data.
pub(crate) fn entry_from_raft(entry: &Entry) -> LogEntry {
    LogEntry {
        entry_type: entry.entry_type as u32,
        term: entry.term,
        index: entry.index,
        data: entry.data.clone(),
        context: entry.context.clone(),
    }
}

/// An entry for raft; `None` when its kind is not one that members write.
pub(crate) fn entry_to_raft(entry: &LogEntry) -> Option<Entry> {
    let mut raft_entry = Entry::default();
    raft_entry.entry_type = match entry.entry_type {
        0 => EntryType::EntryNormal,
        2 => EntryType::EntryConfChangeV2,
        _ => return None,
    };
    raft_entry.term = entry.term;
    raft_entry.index = entry.index;
    raft_entry.data = entry.data.clone();
    raft_entry.context = entry.context.clone();
    Some(raft_entry)
}

/// Whether the entries follow `index` and `log_term` one by one, with terms that never fall.
fn entries_follow<'a>(index: u64, log_term: u64, entries: impl Iterator<Item = (u64, u64)> + 'a) -> bool {
    let mut previous = (index, log_term);
    for (index, term) in entries {
        if index != previous.0 + 1 || term < previous.1 {
            return false;
        }
        previous = (index, term);
    }
    true
}

/// Turns raft's message into ours, large appends into several. An append whose entries do not follow its position is
/// dropped: raft's batching can glue entries to an earlier empty append after the receiver's position was corrected, and
/// a receiver that took it would acknowledge entries that it lacks. Dropping is safe, since any message may get lost.
pub(crate) fn message_from_raft(mut message: Message, out: &mut Vec<RaftMessage>) {
    let entries = message.take_entries().into_vec();
    let snapshot = message.snapshot.as_ref().map(|snapshot| {
        let point = super::log::snapshot_point(snapshot);
        SnapshotMeta { index: point.index, term: point.term, conf_state: Some(point.conf_state) }
    });
    let mut converted = RaftMessage {
        message_type: message.msg_type as u32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: Vec::new(),
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
    };
    if message.msg_type != MessageType::MsgAppend {
        converted.entries = entries.iter().map(entry_from_raft).collect();
        out.push(converted);
        return;
    }
    if !entries_follow(message.index, message.log_term, entries.iter().map(|entry| (entry.index, entry.term))) {
        return;
    }
    let mut bytes = 0;
    for entry in &entries {
        let size = entry.data.len() + entry.context.len();
        if !converted.entries.is_empty() && bytes + size > APPEND_BYTES_MAX {
            let (index, log_term) = converted.entries.last().map_or((0, 0), |last| (last.index, last.term));
            let full = std::mem::take(&mut converted.entries);
            let next = RaftMessage { index, log_term, ..converted.clone() };
            converted.entries = full;
            out.push(std::mem::replace(&mut converted, next));
            bytes = 0;
        }
        bytes += size;
        converted.entries.push(entry_from_raft(entry));
    }
    out.push(converted);
}

/// Checks a message from the network and turns it into raft's; `None` when no member sends such.
pub(crate) fn message_to_raft(message: RaftMessage) -> Option<Message> {
    let message_type = *MESSAGE_TYPES.iter().find(|known| **known as u32 == message.message_type)?;
    // Raft takes a message of term 0 for one of its own; a question for the read index has none.
    if (message_type == MessageType::MsgReadIndex) != (message.term == 0) {
        return None;
    }
    let reads = message_type == MessageType::MsgReadIndex || message_type == MessageType::MsgReadIndexResp;
    if reads && message.entries.len() != 1 {
        return None;
    }
    if message_type == MessageType::MsgAppend {
        let follow = entries_follow(
            message.index,
            message.log_term,
            message.entries.iter().map(|entry| (entry.index, entry.term)),
        );
        if !follow || message.entries.last().is_some_and(|last| last.term > message.term) {
            return None;
        }
    }
    if (message_type == MessageType::MsgSnapshot) != message.snapshot.is_some() {
        return None;
    }
    let entries = message.entries.iter().map(entry_to_raft).collect::<Option<Vec<Entry>>>()?;
    let mut converted = Message::default();
    converted.msg_type = message_type;
    converted.to = message.to;
    converted.from = message.from;
    converted.term = message.term;
    converted.log_term = message.log_term;
    converted.index = message.index;
    converted.set_entries(entries.into());
    converted.commit = message.commit;
    converted.commit_term = message.commit_term;
    converted.request_snapshot = message.request_snapshot;
    converted.reject = message.reject;
    converted.reject_hint = message.reject_hint;
    converted.context = message.context;
    converted.priority = message.priority;
    if let Some(meta) = message.snapshot {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = meta.index;
        metadata.term = meta.term;
        metadata.set_conf_state(conf_state_to_raft(&meta.conf_state.unwrap_or_default()));
        if metadata.index == 0 {
            return None;
        }
        converted.set_snapshot(snapshot);
    }
    Some(converted)
}

/// Raft's change of members as it stands in an entry. Decoded by prost, since entries come from the network.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MembersEntry {
    #[prost(uint32, tag = "1")]
    pub(crate) transition: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) changes: Vec<MembersStep>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) context: Bytes,
}

/// One step of it: 0 makes a voter, 1 removes, 2 makes a learner.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MembersStep {
    #[prost(uint32, tag = "1")]
    pub(crate) change_type: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) node_id: u64,
}

/// Decodes an entry's change of members; `None` when it is none that members write.
pub(crate) fn members_from_entry(data: Bytes) -> Option<(ConfChangeV2, Bytes)> {
    let entry = MembersEntry::decode(data).ok()?;
    let mut change = ConfChangeV2::default();
    change.transition = match entry.transition {
        0 => ConfChangeTransition::Auto,
        1 => ConfChangeTransition::Implicit,
        2 => ConfChangeTransition::Explicit,
        _ => return None,
    };
    let mut steps = Vec::with_capacity(entry.changes.len());
    for step in &entry.changes {
        let mut single = ConfChangeSingle::default();
        single.change_type = match step.change_type {
            0 => ConfChangeType::AddNode,
            1 => ConfChangeType::RemoveNode,
            2 => ConfChangeType::AddLearnerNode,
            _ => return None,
        };
        single.node_id = step.node_id;
        steps.push(single);
    }
    change.set_changes(steps.into());
    Some((change, entry.context))
}
