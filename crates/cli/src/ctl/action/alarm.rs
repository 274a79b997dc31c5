//! `alarm`: list and disarm.
//!
//! Not here: what raises alarms. The invariant: disarming names exactly the alarms that it cleared.

use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;

use crate::ctl::entry::Invocation;
use crate::ctl::failure::Failure;
use crate::ctl::print::Reply;

/// `alarm list`
pub(crate) async fn list(mut run: Invocation) -> Result<(), Failure> {
    if !run.words().is_empty() {
        return Err(Failure::arguments("alarm list command accepts no arguments"));
    }
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(request(AlarmAction::Get, pb::AlarmMember::default()), deadline).await?;
    printer.print(Reply::AlarmList(&reply))
}

/// `alarm disarm`
pub(crate) async fn disarm(mut run: Invocation) -> Result<(), Failure> {
    if !run.words().is_empty() {
        return Err(Failure::arguments("alarm disarm command accepts no arguments"));
    }
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let raised = client.call(request(AlarmAction::Get, pb::AlarmMember::default()), deadline).await?;
    // Without a header, as it stands for several replies.
    let mut cleared = pb::AlarmResponse::default();
    for alarm in raised.alarms {
        let reply = client.call(request(AlarmAction::Deactivate, alarm), deadline).await?;
        cleared.alarms.extend(reply.alarms);
    }
    printer.print(Reply::AlarmList(&cleared))
}

/// What asks for, or changes, an alarm; the default stands for all.
pub(crate) fn request(action: AlarmAction, alarm: pb::AlarmMember) -> pb::AlarmRequest {
    pb::AlarmRequest { action: action.into(), member_id: alarm.member_id, alarm: alarm.alarm }
}
