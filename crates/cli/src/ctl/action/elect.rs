//! `elect`: stands for an election, or watches who leads.
//!
//! Not here: how turns are kept (`queue`). The invariant: a leader that ends by itself has resigned.

use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_proto::mvccpb::{KeyValue, event::EventType};

use super::interrupt::Interrupt;
use super::lock::{SESSION_TTL_SECONDS, canceled};
use super::queue::{Place, queue_range};
use crate::ctl::client::{Client, Session, Watch};
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::{Printer, Reply};

/// `elect`
pub(crate) async fn elect(mut run: Invocation) -> Result<(), Failure> {
    let listen = run.values.is_set("listen");
    let (name, proposal) = match run.words() {
        [_] if !listen => return Err(Failure::arguments("no proposal argument but -l not set")),
        [name] => (name.clone(), None),
        [_, _] if listen => return Err(Failure::arguments("proposal given but -l is set")),
        [name, proposal] => (name.clone(), Some(proposal.clone())),
        _ => {
            let message = "elect takes one election name argument and an optional proposal argument";
            return Err(Failure::arguments(message));
        }
    };
    let (client, printer) = run.client().await?;
    match proposal {
        Some(proposal) => campaign(client, printer, &name, &proposal).await,
        None => {
            let mut interrupt = Interrupt::listen()?;
            tokio::select! {
                result = observe(client, printer, &name) => result,
                () = interrupt.wait() => Ok(()),
            }
        }
    }
}

async fn campaign(mut client: Client, printer: Printer, name: &str, proposal: &str) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    let mut session = tokio::select! {
        session = Session::start(client.clone(), SESSION_TTL_SECONDS) => session?,
        () = interrupt.wait() => return Err(canceled()),
    };
    let lease = session.lease;
    let result = tokio::select! {
        elected = lead(&mut client, name, lease, proposal) => match elected {
            Ok(place) => serve(&mut client, printer, &mut session, &mut interrupt, &place).await,
            Err(failure) => Err(failure),
        },
        () = interrupt.wait() => Err(canceled()),
    };
    // The lease ends by itself if this fails.
    let _ = session.close().await;
    result
}

async fn lead(client: &mut Client, name: &str, lease: i64, proposal: &str) -> Result<Place, Failure> {
    let place = Place::take(client, name, lease, proposal).await?;
    place.wait_for_turn(client, name).await?;
    Ok(place)
}

async fn serve(
    client: &mut Client,
    printer: Printer,
    session: &mut Session,
    interrupt: &mut Interrupt,
    place: &Place,
) -> Result<(), Failure> {
    printer.print(Reply::Get(&place.read(client).await?))?;
    tokio::select! {
        () = interrupt.wait() => Ok(place.leave(client).await?),
        () = session.lost() => Err(Failure::new(failure::SERVER, "elect: session expired")),
    }
}

/// Prints every leader, and every change of what a leader proclaims.
async fn observe(mut client: Client, printer: Printer, name: &str) -> Result<(), Failure> {
    loop {
        let (header, leader) = leader(&mut client, name).await?;
        let shown = pb::RangeResponse { header: Some(header), kvs: vec![leader.clone()], ..Default::default() };
        printer.print(Reply::Get(&shown))?;
        let create =
            pb::WatchCreateRequest { key: leader.key, start_revision: leader.mod_revision + 1, ..Default::default() };
        let mut watch = Watch::new(client.clone(), create);
        'leads: loop {
            let reply = watch.next().await;
            if let Some(reason) = reply.ended {
                return Err(Failure::new(failure::SERVER, reason));
            }
            for event in reply.events {
                if event.r#type() == EventType::Delete {
                    break 'leads;
                }
                let kvs = event.kv.into_iter().collect();
                printer.print(Reply::Get(&pb::RangeResponse { header: reply.header, kvs, ..Default::default() }))?;
            }
        }
    }
}

/// The leader, waited for if there is none.
async fn leader(client: &mut Client, name: &str) -> Result<(pb::ResponseHeader, KeyValue), Failure> {
    let queue = queue_range(name);
    let request = pb::RangeRequest {
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..queue.clone()
    };
    let reply = client.call(request, None).await?;
    let header = reply.header.unwrap_or_default();
    if let Some(leader) = reply.kvs.into_iter().next() {
        return Ok((header, leader));
    }
    let create = pb::WatchCreateRequest {
        key: queue.key,
        range_end: queue.range_end,
        start_revision: header.revision + 1,
        ..Default::default()
    };
    let mut watch = Watch::new(client.clone(), create);
    loop {
        let reply = watch.next().await;
        if let Some(reason) = reply.ended {
            return Err(Failure::new(failure::SERVER, reason));
        }
        let put = reply.events.into_iter().find(|event| event.r#type() == EventType::Put);
        if let Some(leader) = put.and_then(|event| event.kv) {
            return Ok((reply.header.unwrap_or_default(), leader));
        }
    }
}
