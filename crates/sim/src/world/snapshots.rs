//! Snapshots on their way between members: a stream of pieces that may break anywhere.

use super::member::End;
use super::{Event, World};
use crate::history::Violation;
use quorate_node::api::Input;
use quorate_proto::quoratepb::RaftMessage;
use quorate_store::error::DiskError;
use quorate_store::home::SnapshotSource;

/// Pieces are cut again, to this many bytes, so that a break can come between any two.
const PIECE_BYTES: usize = 1024;
/// Pieces in which a bit turns over on a bad network, thousandths.
const DAMAGE_PERMILLE: u64 = 5;

/// One sending.
pub(super) struct Transfer {
    from: usize,
    from_life: u64,
    to: usize,
    /// The receiver's life, once it has begun to receive.
    to_life: Option<u64>,
    source: SnapshotSource,
    rest: bytes::Bytes,
    message: RaftMessage,
    /// Whether a bit was turned over on the way.
    damaged: bool,
}

impl World {
    pub(super) fn send_snapshot(&mut self, member: usize, to: u64, message: RaftMessage) {
        let life = self.machines[member].life;
        let wanted = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        // Had a member that differs given its store away before any round, two of three might differ: more than a majority
        // can heal, and no fault of the cluster's. So it is found here.
        let differs = self.differs(member);
        if differs && self.machines[member].process.as_ref().is_some_and(|process| process.held.is_none()) {
            self.distrust(member, "it was about to give its store away", Vec::new());
        }
        let process = self.machines[member].process.as_ref().expect("the process that sends runs");
        let built =
            process.built.as_ref().filter(|_| !differs).filter(|built| built.checkpoint.applied_index == wanted);
        let source = match built.map(|built| built.source()) {
            Some(Ok(source)) => source,
            Some(Err(error)) => return self.end(member, End::Disk(error)),
            None => {
                self.after(1_000, Event::SnapshotSent { member, life, to, delivered: false });
                return;
            }
        };
        let transfer = self.next_transfer;
        self.next_transfer += 1;
        let to = to as usize - 1;
        self.trace.note(self.now_us, "snapshot leaves", &[member as u64 + 1, to as u64 + 1, wanted, transfer]);
        let rest = bytes::Bytes::new();
        self.transfers.insert(
            transfer,
            Transfer { from: member, from_life: life, to, to_life: None, source, rest, message, damaged: false },
        );
        let delay_us = self.net.stream_delay_us();
        self.after(delay_us, Event::SnapshotPiece { transfer });
    }

    pub(super) fn snapshot_piece(&mut self, number: u64) {
        let Some(mut transfer) = self.transfers.remove(&number) else { return };
        let (from, to) = (transfer.from, transfer.to);
        if self.machines[from].life != transfer.from_life {
            return;
        }
        if self.machines[from].paused || (self.machines[to].paused && self.machines[to].process.is_some()) {
            self.transfers.insert(number, transfer);
            self.after(10_000, Event::SnapshotPiece { transfer: number });
            return;
        }
        let receiving = self.machines[to].process.is_some()
            && transfer.to_life.is_none_or(|life| life == self.machines[to].life)
            && self.net.reaches(from, to)
            && !self.net_breaks_stream();
        if !receiving {
            return self.transfer_over(&transfer, false);
        }
        match self.receive_piece(number, &mut transfer) {
            Ok(Progress::More) => {
                self.transfers.insert(number, transfer);
                let delay_us = self.net.stream_delay_us();
                self.after(delay_us, Event::SnapshotPiece { transfer: number });
            }
            Ok(Progress::Delivered) => self.transfer_over(&transfer, true),
            Ok(Progress::Refused) => self.transfer_over(&transfer, false),
            Err((_, DiskError::Corrupt { .. })) if transfer.damaged => {
                // As it should: the receiver refused what was not sent so.
                if let Some(receiver) = &mut self.machines[to].process {
                    receiver.incoming = None;
                }
                self.transfer_over(&transfer, false);
            }
            Err((member, error)) => {
                self.transfer_over(&transfer, false);
                self.end(member, End::Disk(error));
            }
        }
    }

    fn net_breaks_stream(&mut self) -> bool {
        let loss_permille = self.net.faults.loss_permille;
        self.random.permille(loss_permille / 4)
    }

    fn transfer_over(&mut self, transfer: &Transfer, delivered: bool) {
        let (member, life, to) = (transfer.from, transfer.from_life, transfer.to as u64 + 1);
        self.trace.note(self.now_us, "snapshot over", &[member as u64 + 1, to, u64::from(delivered)]);
        let delay_us = self.net.stream_delay_us();
        self.after(delay_us, Event::SnapshotSent { member, life, to, delivered });
    }

    /// Moves one piece; the error names the member whose disk failed.
    fn receive_piece(&mut self, number: u64, transfer: &mut Transfer) -> Result<Progress, (usize, DiskError)> {
        let (from, to) = (transfer.from, transfer.to);
        let life = self.machines[to].life;
        let receiver = self.machines[to].process.as_mut().expect("the caller looked");
        if transfer.to_life.is_none() {
            // One at a time, from the first piece until it is installed or not wanted.
            let busy = receiver.incoming.as_ref().is_some_and(|(incoming, _)| self.transfers.contains_key(incoming));
            if busy || receiver.arrived.is_some() || receiver.installing() {
                return Ok(Progress::Refused);
            }
            let sink = receiver.store.receive().map_err(|error| (to, error))?;
            receiver.incoming = Some((number, sink));
            transfer.to_life = Some(life);
        }
        if transfer.rest.is_empty() {
            match transfer.source.next().map_err(|error| (from, error))? {
                Some(piece) => transfer.rest = piece,
                None => {
                    let Some((_, sink)) = receiver.incoming.take_if(|(incoming, _)| *incoming == number) else {
                        return Ok(Progress::Refused);
                    };
                    let received = sink.finish().map_err(|error| (to, error))?;
                    if transfer.damaged {
                        self.found(Violation::new("durability", "a snapshot was taken that was damaged on its way"));
                    }
                    self.snapshot_arrived(to, received, transfer.message.clone());
                    return Ok(Progress::Delivered);
                }
            }
        }
        let Some((_, sink)) = receiver.incoming.as_mut().filter(|(incoming, _)| *incoming == number) else {
            return Ok(Progress::Refused);
        };
        let piece = transfer.rest.split_to(transfer.rest.len().min(PIECE_BYTES));
        let mut piece = piece.to_vec();
        if self.net.faults.loss_permille > 0 && self.random.permille(DAMAGE_PERMILLE) {
            let byte = self.random.below(piece.len() as u64) as usize;
            piece[byte] ^= 1 << self.random.below(8);
            transfer.damaged = true;
        }
        sink.write(&piece).map_err(|error| (to, error))?;
        Ok(Progress::More)
    }

    pub(super) fn snapshot_sent(&mut self, member: usize, to: u64, delivered: bool) {
        self.tell(member, Input::SnapshotSent { to, delivered });
    }
}

enum Progress {
    More,
    Delivered,
    Refused,
}
