//! Watch clients: a connection each, a few watchers on it, and the persistence of a good client library: when the
//! connection breaks, it goes on at another member from behind the last revision that it was told of.

use super::member::End;
use super::{Event, Phase, World};
use crate::check::watch::{Told, WatchTrack};
use crate::history::Violation;
use crate::plant::Plant;
use crate::random::Random;
use crate::workload;
use quorate_proto::Message;
use quorate_proto::mvccpb;
use quorate_store::watch::{Delivery, StreamLimits, WatchRefused, WatchSpec, WatchStream};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const WATCHERS_PER_CLIENT: u64 = 3;
/// Bytes that a stream hands out at once.
const DELIVERY_BYTES_MAX: usize = 512;

/// What a client says on its stream.
#[derive(Debug)]
pub(super) enum ToServer {
    /// The connection itself.
    Open,
    /// Make a watcher of this client's number.
    Create(usize, WatchSpec),
    /// End the watcher with this id, which is this number at the client.
    Cancel(usize, i64),
    /// Tell the revision that all have reached.
    Progress,
}

/// What a member says.
#[derive(Debug)]
pub(super) enum ToClient {
    /// A watcher has this id, and its stream is at this revision.
    Created(usize, i64, i64),
    /// A watcher could not be made.
    Refused(usize, WatchRefused, i64),
    /// A watcher ended as its client asked.
    Cancelled(usize, i64),
    /// Whatever the hub gave.
    Delivery(Delivery),
    /// The connection broke.
    Broken,
}

/// A member's end of a connection.
pub(super) struct ServerStream {
    stream: WatchStream,
    client: usize,
    awake: Arc<AtomicBool>,
    turn_planned: bool,
    /// Pieces of one stream keep their order.
    last_arrival_us: u64,
}

/// One watcher at its client.
struct ClientWatcher {
    track: WatchTrack,
    /// Whether its first revision is known.
    begun: bool,
    /// The first revision that it was not told of.
    next_revision: i64,
    /// Its id on the connection in use.
    watch_id: Option<i64>,
    /// Whether a creation or a cancellation is on its way.
    waiting: bool,
}

/// A client that watches.
pub(super) struct WatchClient {
    random: Random,
    member: usize,
    /// 0: none.
    connection: u64,
    watchers: Vec<ClientWatcher>,
    /// Ids on the connection in use: whose they are.
    ids: BTreeMap<i64, usize>,
    /// How long it takes to look at what came, us.
    slowness_us: u64,
    received: u64,
}

impl WatchClient {
    pub(super) fn new(mut random: Random) -> Self {
        let slowness_us = *random.pick(&[0, 0, 0, 5_000, 50_000]);
        Self { random, member: 0, connection: 0, watchers: Vec::new(), ids: BTreeMap::new(), slowness_us, received: 0 }
    }

    /// What its watchers saw.
    pub(super) fn tracks(&self) -> impl Iterator<Item = &WatchTrack> {
        self.watchers.iter().filter(|watcher| watcher.begun).map(|watcher| &watcher.track)
    }

    fn take(&mut self, number: usize, told: Told) {
        let watcher = &mut self.watchers[number];
        match &told {
            Told::Events { revision, .. } | Told::Progress(revision) => {
                watcher.next_revision = watcher.next_revision.max(revision + 1);
            }
            Told::Compacted(revision) => watcher.next_revision = watcher.next_revision.max(*revision),
        }
        watcher.track.told.push(told);
    }
}

impl World {
    /// A watch client looks after its connection, and sometimes asks for something.
    pub(super) fn watch_turn(&mut self, number: usize) {
        let chaos = self.phase == Phase::Chaos;
        let revision = self.known_revision();
        let at = &self.watch_clients[number];
        if !chaos && at.connection != 0 && !self.belongs(at.member) {
            // Who was removed and has not heard of it owes nobody events.
            self.break_watch(number);
        }
        let client = &mut self.watch_clients[number];
        let delay_us = client.random.duration_us(if chaos { 40_000 } else { 20_000 });
        if client.watchers.is_empty() {
            for _ in 0..client.random.range(1..WATCHERS_PER_CLIENT + 1) {
                let spec = workload::watcher(&mut client.random, &self.scenario, revision);
                client.watchers.push(ClientWatcher {
                    begun: spec.start_revision > 0,
                    next_revision: spec.start_revision,
                    track: WatchTrack { spec, told: Vec::new(), complete: true },
                    watch_id: None,
                    waiting: false,
                });
            }
        }
        if client.connection == 0 {
            let machines = self.machines.len();
            let first = client.random.below(machines as u64) as usize;
            let log = &self.log;
            let owes = |member: &usize| chaos || log.members().has(*member as u64 + 1);
            client.member = (0..machines).map(|step| (first + step) % machines).find(owes).unwrap_or(first);
            client.connection = self.next_connection;
            self.next_connection += 1;
            self.say_to_server(number, ToServer::Open);
            for watcher in 0..self.watch_clients[number].watchers.len() {
                self.create_watcher(number, watcher);
            }
        } else if chaos {
            match client.random.below(20) {
                0 => self.break_watch(number),
                1 => {
                    let watcher = client.random.below(client.watchers.len() as u64) as usize;
                    if let Some(watch_id) = client.watchers[watcher].watch_id
                        && !std::mem::replace(&mut client.watchers[watcher].waiting, true)
                    {
                        self.say_to_server(number, ToServer::Cancel(watcher, watch_id));
                    }
                }
                2..8 => self.say_to_server(number, ToServer::Progress),
                _ => {}
            }
        }
        self.after(delay_us, Event::WatchTurn { client: number });
    }

    fn create_watcher(&mut self, number: usize, watcher: usize) {
        let state = &mut self.watch_clients[number].watchers[watcher];
        state.waiting = true;
        let spec = WatchSpec { start_revision: state.next_revision, ..state.track.spec.clone() };
        self.say_to_server(number, ToServer::Create(watcher, spec));
    }

    fn say_to_server(&mut self, client: usize, request: ToServer) {
        let WatchClient { connection, member, .. } = self.watch_clients[client];
        // One stream, in order: all that is said in one turn leaves at once, and the queue keeps insertion order.
        self.after(self.scenario.net.delay_us, Event::WatchRequest { client, connection, member, request });
    }

    /// A watch client's connection breaks, at both ends.
    pub(super) fn break_watch(&mut self, number: usize) {
        let client = &mut self.watch_clients[number];
        let (connection, member) = (std::mem::take(&mut client.connection), client.member);
        client.ids.clear();
        for watcher in &mut client.watchers {
            watcher.watch_id = None;
            watcher.waiting = false;
        }
        if let Some(process) = &mut self.machines[member].process {
            process.streams.remove(&connection);
        }
    }

    pub(super) fn watch_request(&mut self, client: usize, connection: u64, member: usize, request: ToServer) {
        self.trace.note(self.now_us, "watch request", &[client as u64, connection, member as u64 + 1]);
        self.trace.say(self.now_us, || format!("watch client {client}: {request:?}"));
        if self.watch_clients[client].connection != connection {
            return;
        }
        let queue_bytes_max = self.scenario.watch_queue_bytes_max;
        let Some(process) = &mut self.machines[member].process else {
            return self.break_watch(client);
        };
        if matches!(request, ToServer::Open) {
            let awake = Arc::new(AtomicBool::new(false));
            let flag = awake.clone();
            let limits = StreamLimits { queue_bytes_max, watchers_max: 100 };
            let wake = Arc::new(move || flag.store(true, Ordering::Relaxed));
            let stream = process.reader.watch_hub().open_stream(limits, wake);
            process
                .streams
                .insert(connection, ServerStream { stream, client, awake, turn_planned: false, last_arrival_us: 0 });
            return;
        }
        let compact_revision = process.reader.stats().compact_revision;
        let Some(server) = process.streams.get_mut(&connection) else {
            // The member was started anew meanwhile.
            return self.break_watch(client);
        };
        match request {
            ToServer::Open => unreachable!("handled above"),
            ToServer::Create(watcher, spec) => {
                let message = match server.stream.create(spec) {
                    Ok((watch_id, revision)) => ToClient::Created(watcher, watch_id, revision),
                    Err(refused) => ToClient::Refused(watcher, refused, compact_revision),
                };
                self.say_to_client(member, connection, message);
                self.plan_stream_turn(member, connection);
            }
            ToServer::Cancel(watcher, watch_id) => {
                server.stream.cancel(watch_id);
                self.say_to_client(member, connection, ToClient::Cancelled(watcher, watch_id));
            }
            ToServer::Progress => {
                if self.random.coin() {
                    server.stream.request_progress();
                } else {
                    server.stream.interval_passed();
                }
                self.poll_streams(member);
            }
        }
    }

    fn plan_stream_turn(&mut self, member: usize, connection: u64) {
        let life = self.machines[member].life;
        let Some(process) = &mut self.machines[member].process else { return };
        let Some(server) = process.streams.get_mut(&connection) else { return };
        if std::mem::replace(&mut server.turn_planned, true) {
            return;
        }
        let slowness_us = self.watch_clients[server.client].slowness_us;
        let delay_us = self.random.duration_us(50 + slowness_us);
        self.after(delay_us, Event::StreamTurn { member, life, connection });
    }

    /// Gives a turn to every stream that the hub woke.
    pub(super) fn poll_streams(&mut self, member: usize) {
        let Some(process) = &self.machines[member].process else { return };
        let awake: Vec<u64> = process
            .streams
            .iter()
            .filter(|(_, server)| server.awake.swap(false, Ordering::Relaxed))
            .map(|(connection, _)| *connection)
            .collect();
        for connection in awake {
            self.plan_stream_turn(member, connection);
        }
    }

    pub(super) fn stream_turn(&mut self, member: usize, connection: u64) {
        let Some(process) = &mut self.machines[member].process else { return };
        let Some(server) = process.streams.get_mut(&connection) else { return };
        server.turn_planned = false;
        let deliveries = server.stream.next(DELIVERY_BYTES_MAX);
        self.trace.note(self.now_us, "stream", &[member as u64 + 1, connection, deliveries.len() as u64]);
        let broken = deliveries.iter().any(|delivery| matches!(delivery, Delivery::Broken { .. }));
        if broken && self.machines[member].disk.has_failed() {
            return self.end(member, End::FailedDisk);
        }
        let again = !deliveries.is_empty();
        for delivery in deliveries {
            let (delivery, copies) = self.plant_delivery(delivery);
            for _ in 0..copies {
                self.say_to_client(member, connection, ToClient::Delivery(delivery.clone()));
            }
        }
        if again {
            self.plan_stream_turn(member, connection);
        }
        self.poll_streams(member);
    }

    fn plant_delivery(&mut self, mut delivery: Delivery) -> (Delivery, usize) {
        let Delivery::Events { events, .. } = &mut delivery else { return (delivery, 1) };
        match self.options.plant {
            Some(Plant::DropEvent) if self.planted == 0 => {
                self.planted += 1;
                events.remove(0);
                (delivery, 1)
            }
            Some(Plant::RepeatEvent) if self.planted == 0 => {
                self.planted += 1;
                (delivery, 2)
            }
            _ => (delivery, 1),
        }
    }

    fn say_to_client(&mut self, member: usize, connection: u64, message: ToClient) {
        let delay_us = self.net.stream_delay_us();
        let Some(process) = &mut self.machines[member].process else { return };
        let Some(server) = process.streams.get_mut(&connection) else { return };
        server.last_arrival_us = (self.now_us + delay_us).max(server.last_arrival_us + 1);
        let (client, arrival_us) = (server.client, server.last_arrival_us);
        self.at(arrival_us, Event::WatchArrives { client, connection, message });
    }

    /// Tells the watch clients of a process that ended.
    pub(super) fn break_streams_of(&mut self, member: usize) {
        for client in 0..self.watch_clients.len() {
            let WatchClient { connection, member: at, .. } = self.watch_clients[client];
            if at == member && connection != 0 {
                let delay_us = self.net.stream_delay_us();
                self.after(delay_us, Event::WatchArrives { client, connection, message: ToClient::Broken });
            }
        }
    }

    pub(super) fn watch_arrives(&mut self, number: usize, connection: u64, message: ToClient) {
        if self.watch_clients[number].connection != connection {
            return;
        }
        self.trace.note(self.now_us, "watch", &[number as u64, connection]);
        self.trace.say(self.now_us, || format!("watch client {number} is told: {message:?}"));
        let client = &mut self.watch_clients[number];
        match message {
            ToClient::Broken => self.break_watch(number),
            ToClient::Created(watcher, watch_id, revision) => {
                let state = &mut client.watchers[watcher];
                state.waiting = false;
                state.watch_id = Some(watch_id);
                if !state.begun {
                    state.begun = true;
                    state.next_revision = revision + 1;
                    state.track.spec.start_revision = revision + 1;
                }
                if let Some(other) = client.ids.insert(watch_id, watcher) {
                    self.found(Violation::new(
                        "watch",
                        format!("id {watch_id} is given to watchers {other} and {watcher}"),
                    ));
                }
            }
            ToClient::Refused(watcher, WatchRefused::Compacted, revision) => {
                client.watchers[watcher].waiting = false;
                client.take(watcher, Told::Compacted(revision));
                self.create_watcher(number, watcher);
            }
            ToClient::Refused(watcher, WatchRefused::EmptyRange, _) => {
                // Its range ends before it begins: there is nothing to wait for.
                client.watchers[watcher].waiting = false;
            }
            ToClient::Refused(watcher, refused, _) => {
                let what = format!("watcher {watcher} of client {number} is refused: {refused:?}");
                self.found(Violation::new("watch", what));
            }
            ToClient::Cancelled(watcher, watch_id) => {
                client.ids.remove(&watch_id);
                let state = &mut client.watchers[watcher];
                // It may have ended by a compaction on the way.
                if state.watch_id.take_if(|id| *id == watch_id).is_some() {
                    self.create_watcher(number, watcher);
                }
            }
            ToClient::Delivery(delivery) => self.delivered(number, delivery),
        }
    }

    fn delivered(&mut self, number: usize, delivery: Delivery) {
        let client = &mut self.watch_clients[number];
        let (watch_id, told) = match delivery {
            Delivery::Progress { revision } => {
                let watchers: Vec<usize> = client.ids.values().copied().collect();
                for watcher in watchers {
                    client.take(watcher, Told::Progress(revision));
                }
                return;
            }
            Delivery::Events { watch_id, revision, events } => {
                self.counts.watch_events += events.len() as u64;
                client.received += events.len() as u64;
                let mut decoded = Vec::with_capacity(events.len());
                for event in events {
                    match mvccpb::Event::decode(event) {
                        Ok(event) => decoded.push(event),
                        Err(error) => {
                            return self.found(Violation::new("watch", format!("an event cannot be decoded: {error}")));
                        }
                    }
                }
                (watch_id, Told::Events { revision, events: decoded })
            }
            Delivery::WatcherProgress { watch_id, revision } => (watch_id, Told::Progress(revision)),
            Delivery::Compacted { watch_id, compact_revision } => (watch_id, Told::Compacted(compact_revision)),
            // The member cannot read its files: its clients go elsewhere.
            Delivery::Broken { .. } if self.options.rot || self.options.integrity => return self.break_watch(number),
            Delivery::Broken { .. } => {
                let what = format!("member {} cannot read its history", client.member + 1);
                return self.found(Violation::new("watch", what));
            }
        };
        let Some(watcher) = client.ids.get(&watch_id).copied() else {
            return self.found(Violation::new(
                "watch",
                format!("client {number} is told of watcher id {watch_id}, which it has not: {told:?}"),
            ));
        };
        let ended = matches!(told, Told::Compacted(_));
        client.take(watcher, told);
        if ended {
            client.ids.remove(&watch_id);
            client.watchers[watcher].watch_id = None;
            if !client.watchers[watcher].waiting {
                self.create_watcher(number, watcher);
            } else {
                // The cancellation under way finds nothing: its answer makes the watcher anew.
                client.watchers[watcher].watch_id = Some(watch_id);
            }
        }
    }

    /// Whether every watch client is connected, at a member that runs, and has nothing to wait for.
    pub(super) fn watchers_idle(&self) -> bool {
        self.watch_clients.iter().all(|client| {
            let process = self.machines[client.member].process.as_ref();
            let stream = process.and_then(|process| process.streams.get(&client.connection));
            // Without a stream its watchers all ended, or it is about to connect.
            self.belongs(client.member)
                && stream.is_some_and(|server| {
                    !server.turn_planned
                        && !server.awake.load(Ordering::Relaxed)
                        && server.last_arrival_us < self.now_us
                })
                && client.watchers.iter().all(|watcher| !watcher.waiting)
        })
    }
}
