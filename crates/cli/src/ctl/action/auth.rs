//! `auth`: enable, disable, status.
//!
//! Not here: users and roles. The invariant: enabling leaves a cluster that root can still enter.

use quorate_proto::etcdserverpb as pb;

use crate::ctl::client::{Client, Deadline};
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{CallError, Failure};
use crate::ctl::print::{Reply, write_out};

const ROOT: &str = "root";
const ROOT_LACKS_ROLE: &str = "etcdserver: root user does not have root role";
const ROLE_EXISTS: &str = "etcdserver: role name already exists";

/// `auth status`
pub(crate) async fn status(mut run: Invocation) -> Result<(), Failure> {
    no_words(&run, "status")?;
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::AuthStatusRequest {}, deadline).await?;
    printer.print(Reply::AuthStatus(&reply))
}

/// `auth enable`
pub(crate) async fn enable(mut run: Invocation) -> Result<(), Failure> {
    no_words(&run, "enable")?;
    let (mut client, _) = run.client().await?;
    let deadline = client.command_deadline();
    match client.call(pb::AuthEnableRequest {}, deadline).await {
        Err(error) if error.message == ROOT_LACKS_ROLE => {
            give_root_its_role(&mut client, deadline).await?;
            client.call(pb::AuthEnableRequest {}, deadline).await?;
        }
        result => drop(result?),
    }
    write_out(b"Authentication Enabled\n")
}

async fn give_root_its_role(client: &mut Client, deadline: Deadline) -> Result<(), CallError> {
    match client.call(pb::AuthRoleAddRequest { name: ROOT.to_owned() }, deadline).await {
        Err(error) if error.message != ROLE_EXISTS => return Err(error),
        _ => {}
    }
    let grant = pb::AuthUserGrantRoleRequest { user: ROOT.to_owned(), role: ROOT.to_owned() };
    client.call(grant, deadline).await.map(drop)
}

/// `auth disable`
pub(crate) async fn disable(mut run: Invocation) -> Result<(), Failure> {
    no_words(&run, "disable")?;
    let (mut client, _) = run.client().await?;
    let deadline = client.command_deadline();
    client.call(pb::AuthDisableRequest {}, deadline).await?;
    write_out(b"Authentication Disabled\n")
}

fn no_words(run: &Invocation, name: &str) -> Result<(), Failure> {
    if run.words().is_empty() {
        return Ok(());
    }
    Err(Failure::arguments(format!("auth {name} command does not accept any arguments")))
}
