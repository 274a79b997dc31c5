//! `lock`: holds a named lock, until interrupted or while a command runs.
//!
//! Not here: how turns are kept (`queue`). The invariant: a process that ends by itself has given the lock back.

use super::child;
use super::interrupt::Interrupt;
use super::queue::Place;
use crate::ctl::client::{Client, Session};
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::{Printer, Reply};

/// The TTL of a session whose flag says nothing sensible, in seconds.
pub(crate) const SESSION_TTL_SECONDS: i64 = 60;

/// `lock`
pub(crate) async fn lock(mut run: Invocation) -> Result<(), Failure> {
    let [name, command @ ..] = run.words() else {
        let message = "lock takes a lock name argument and an optional command to execute";
        return Err(Failure::arguments(message));
    };
    let (name, command) = (name.clone(), command.to_vec());
    let ttl_seconds = Some(run.values.int("ttl")).filter(|ttl| *ttl > 0).unwrap_or(SESSION_TTL_SECONDS);
    let (mut client, printer) = run.client().await?;
    let mut interrupt = Interrupt::listen()?;
    let mut session = tokio::select! {
        session = Session::start(client.clone(), ttl_seconds) => session?,
        () = interrupt.wait() => return Err(canceled()),
    };
    let result = tokio::select! {
        acquired = acquire(&mut client, &name, session.lease) => match acquired {
            Ok(place) => hold(&mut client, printer, &mut session, &mut interrupt, &place, &command).await,
            Err(failure) => Err(failure),
        },
        () = interrupt.wait() => Err(canceled()),
    };
    // The lease ends by itself if this fails.
    let _ = session.close().await;
    result
}

/// The process was asked to end while it waited.
pub(crate) fn canceled() -> Failure {
    Failure::new(failure::SERVER, "context canceled")
}

async fn acquire(client: &mut Client, name: &str, lease: i64) -> Result<Place, Failure> {
    let place = Place::take(client, name, lease, "").await?;
    place.wait_for_turn(client, name).await?;
    Ok(place)
}

/// Keeps the lock until the command is done or, without one, until interrupted.
async fn hold(
    client: &mut Client,
    printer: Printer,
    session: &mut Session,
    interrupt: &mut Interrupt,
    place: &Place,
    command: &[String],
) -> Result<(), Failure> {
    if command.is_empty() {
        printer.print(Reply::Get(&place.read(client).await?))?;
        tokio::select! {
            () = interrupt.wait() => {}
            () = session.lost() => return Err(Failure::new(failure::SERVER, "session expired")),
        }
        return Ok(place.leave(client).await?);
    }
    let variables = [("ETCD_LOCK_KEY", place.key.clone()), ("ETCD_LOCK_REV", place.revision.to_string())];
    let ran = child::run(command, &variables).await;
    place.leave(client).await?;
    ran.map_err(|fault| Failure::new(fault.code, fault.message))
}
