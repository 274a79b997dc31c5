//! `downgrade`: enable, validate, cancel.
//!
//! Not here: what a downgrade is. The invariant: each command is one call.

use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::downgrade_request::DowngradeAction;

use crate::ctl::entry::Invocation;
use crate::ctl::failure::Failure;
use crate::ctl::print::Reply;

/// `downgrade validate`
pub(crate) async fn validate(run: Invocation) -> Result<(), Failure> {
    let version = version(&run)?;
    ask(run, DowngradeAction::Validate, "validate", version).await
}

/// `downgrade enable`
pub(crate) async fn enable(run: Invocation) -> Result<(), Failure> {
    let version = version(&run)?;
    ask(run, DowngradeAction::Enable, "enable", version).await
}

/// `downgrade cancel`
pub(crate) async fn cancel(run: Invocation) -> Result<(), Failure> {
    ask(run, DowngradeAction::Cancel, "cancel", String::new()).await
}

fn version(run: &Invocation) -> Result<String, Failure> {
    match run.words() {
        [] => Err(Failure::arguments("TARGET_VERSION not provided")),
        [version] => Ok(version.clone()),
        _ => Err(Failure::arguments("too many arguments")),
    }
}

async fn ask(mut run: Invocation, action: DowngradeAction, name: &str, version: String) -> Result<(), Failure> {
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::DowngradeRequest { action: action.into(), version }, deadline).await?;
    printer.print(Reply::Downgrade { action: name, reply: &reply })
}
