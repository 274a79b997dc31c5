//! `lease`: grant, revoke, timetolive, list, keep-alive.
//!
//! Not here: leases of locks and elections. The invariant: IDs are typed and shown in hexadecimal.

use std::time::Duration;

use quorate_proto::etcdserverpb as pb;

use crate::command_line::go_text::parse_int;
use crate::ctl::client::KeepAlive;
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::{Format, Reply, write_out};

/// `lease grant`
pub(crate) async fn grant(mut run: Invocation) -> Result<(), Failure> {
    let [ttl] = run.words() else { return Err(Failure::arguments("lease grant command needs TTL argument")) };
    let ttl = parse_int(ttl, 10).map_err(|reason| Failure::arguments(format!("bad TTL ({reason})")))?;
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::LeaseGrantRequest { ttl, id: 0 }, deadline).await;
    let reply = reply.map_err(|error| Failure::new(failure::SERVER, format!("failed to grant lease ({error})")))?;
    printer.print(Reply::LeaseGrant(&reply))
}

/// `lease revoke`
pub(crate) async fn revoke(mut run: Invocation) -> Result<(), Failure> {
    let lease = lease_word(&run, "lease revoke command needs 1 argument")?;
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::LeaseRevokeRequest { id: lease }, deadline).await;
    let reply = reply.map_err(|error| Failure::new(failure::SERVER, format!("failed to revoke lease ({error})")))?;
    printer.print(Reply::LeaseRevoke { lease, reply: &reply })
}

/// `lease timetolive`
pub(crate) async fn time_to_live(mut run: Invocation) -> Result<(), Failure> {
    let lease = lease_word(&run, "lease timetolive command needs lease ID as argument")?;
    let (mut client, printer) = run.client().await?;
    let with_keys = run.values.is_set("keys");
    let reply = client.call(pb::LeaseTimeToLiveRequest { id: lease, keys: with_keys }, None).await;
    let reply = reply.map_err(|error| Failure::new(failure::CONNECTION, error.to_string()))?;
    printer.print(Reply::LeaseTimeToLive { with_keys, reply: &reply })
}

/// `lease list`
pub(crate) async fn list(mut run: Invocation) -> Result<(), Failure> {
    let (mut client, printer) = run.client().await?;
    let reply = client.call(pb::LeaseLeasesRequest {}, None).await;
    let reply = reply.map_err(|error| Failure::new(failure::CONNECTION, error.to_string()))?;
    printer.print(Reply::LeaseList(&reply))
}

/// `lease keep-alive`
pub(crate) async fn keep_alive(mut run: Invocation) -> Result<(), Failure> {
    let lease = lease_word(&run, "lease keep-alive command needs lease ID as argument")?;
    let (client, printer) = run.client().await?;
    let once = run.values.is_set("once");
    let mut renewals = KeepAlive::new(client, lease);
    loop {
        let reply = match renewals.renew(None).await {
            Ok(reply) => reply,
            Err(error) if error.code == tonic::Code::Unavailable && !once => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
            Err(error) => return Err(Failure::new(failure::CONNECTION, error.to_string())),
        };
        match (reply.ttl > 0, once) {
            (true, true) => return printer.print(Reply::LeaseKeepAlive(&reply)),
            (true, false) => printer.print(Reply::LeaseKeepAlive(&reply))?,
            (false, true) => {
                return Err(Failure::new(failure::CONNECTION, "etcdserver: requested lease not found"));
            }
            (false, false) if printer.format == Format::Simple => {
                return write_out(format!("lease {lease:016x} expired or revoked.\n").as_bytes());
            }
            (false, false) => return Ok(()),
        }
        tokio::time::sleep(Duration::from_secs(reply.ttl.unsigned_abs()) / 3).await;
    }
}

fn lease_word(run: &Invocation, missing: &str) -> Result<i64, Failure> {
    let [lease] = run.words() else { return Err(Failure::arguments(missing)) };
    parse_int(lease, 16)
        .map_err(|reason| Failure::arguments(format!("bad lease ID arg ({reason}), expecting ID in Hex")))
}
