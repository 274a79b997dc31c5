//! Commands that speak to each endpoint by itself: `endpoint`, `defrag`, `move-leader`.
//!
//! Not here: commands for which any member will do. The invariant: one endpoint that fails keeps no other from being
//! asked.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use tokio::time::Instant;

use super::alarm;
use super::interrupt::Interrupt;
use crate::command_line::go_text::{duration_text, parse_uint};
use crate::ctl::client::{Call, Client};
use crate::ctl::entry::{Invocation, printer};
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::{EndpointHealth, Format, Reply, write_out};
use crate::ctl::settings::Settings;

/// The shortest pause between two rounds of `health --watch`.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// What a server says to a user that may not read the key by which health is probed: it works.
const PERMISSION_DENIED: &str = "etcdserver: permission denied";

/// The endpoints of the settings, or with `--cluster` those that the members advertise.
async fn endpoints(run: &Invocation, settings: &Arc<Settings>) -> Result<Vec<String>, Failure> {
    if !run.values.is_set("cluster") {
        return Ok(settings.endpoints.clone());
    }
    let mut client = Client::new(settings).await?;
    let deadline = client.command_deadline();
    let members = client.call(pb::MemberListRequest { linearizable: true }, deadline).await.map_err(|error| {
        let message = format!("failed to fetch endpoints from etcd cluster member list: {error}");
        Failure::new(failure::SERVER, message)
    })?;
    Ok(members.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

/// Asks one endpoint.
async fn ask<Request: Call>(
    settings: &Arc<Settings>,
    endpoint: &str,
    request: Request,
) -> Result<Request::Reply, Failure> {
    let mut client = Client::of_endpoints(settings, vec![endpoint.to_owned()]).await?;
    let deadline = client.command_deadline();
    Ok(client.call(request, deadline).await?)
}

/// `endpoint health`
pub(crate) async fn health(mut run: Invocation) -> Result<(), Failure> {
    let settings = run.settings()?;
    let endpoints = endpoints(&run, &settings).await?;
    let probes: FuturesUnordered<_> = endpoints.iter().map(|endpoint| probe(&settings, endpoint)).collect();
    // In the order in which they answered.
    let healths: Vec<EndpointHealth> = probes.collect().await;
    let printer = printer(&settings);
    if settings.format == Format::Simple {
        for health in &healths {
            let line = printer.render(Reply::EndpointHealth(std::slice::from_ref(health)))?;
            match health.error {
                None => write_out(&line)?,
                Some(_) => eprint!("{}", String::from_utf8_lossy(&line)),
            }
        }
    } else {
        printer.print(Reply::EndpointHealth(&healths))?;
    }
    if healths.iter().any(|health| health.error.is_some()) {
        return Err(Failure::new(failure::SERVER, "unhealthy cluster"));
    }
    Ok(())
}

/// `health`: all endpoints in one word, again and again with `--watch`.
pub(crate) async fn cluster_health(mut run: Invocation) -> Result<(), Failure> {
    let settings = run.settings()?;
    let endpoints = endpoints(&run, &settings).await?;
    let printer = printer(&settings);
    let mut interrupt = Interrupt::listen()?;
    let mut shown = None;
    loop {
        let probes = futures::future::join_all(endpoints.iter().map(|endpoint| probe(&settings, endpoint)));
        let healths = tokio::select! {
            healths = probes => healths,
            () = interrupt.wait() => return Ok(()),
        };
        let state: Vec<Option<&str>> = healths.iter().map(|health| health.error.as_deref()).collect();
        let word = match state.iter().filter(|error| error.is_none()).count() {
            0 => "unhealthy",
            healthy if healthy < state.len() => "degraded",
            _ => "healthy",
        };
        // Reasons name times and addresses; only who is well and who is not is news.
        let news: Vec<bool> = state.iter().map(Option::is_none).collect();
        if shown.as_ref() != Some(&news) {
            printer.print(Reply::EndpointHealth(&healths))?;
            if settings.format == Format::Simple {
                write_out(format!("cluster is {word}\n").as_bytes())?;
            }
            shown = Some(news);
        }
        if !run.values.is_set("watch") {
            let failure = Failure::new(failure::SERVER, format!("the cluster is {word}"));
            return if word == "healthy" { Ok(()) } else { Err(failure) };
        }
        tokio::select! {
            () = tokio::time::sleep(run.values.duration("interval").max(INTERVAL_MIN)) => {}
            () = interrupt.wait() => return Ok(()),
        }
    }
}

/// Finds out whether an endpoint can read at its cluster's newest state and has no alarm.
async fn probe(settings: &Arc<Settings>, endpoint: &str) -> EndpointHealth {
    let started = Instant::now();
    let error = probe_error(settings, endpoint).await.err();
    EndpointHealth { endpoint: endpoint.to_owned(), took: started.elapsed(), error }
}

async fn probe_error(settings: &Arc<Settings>, endpoint: &str) -> Result<(), String> {
    let client = Client::of_endpoints(settings, vec![endpoint.to_owned()]).await;
    let mut client = client.map_err(|failure| failure.message)?;
    let deadline = client.command_deadline();
    // Any key will do: the answer needs the leader and a quorum.
    match client.call(pb::RangeRequest { key: "health".into(), ..Default::default() }, deadline).await {
        Err(error) if error.message != PERMISSION_DENIED => return Err(error.to_string()),
        _ => {}
    }
    match client.call(alarm::request(AlarmAction::Get, pb::AlarmMember::default()), deadline).await {
        Ok(reply) if reply.alarms.is_empty() => Ok(()),
        Ok(reply) => {
            let names = reply.alarms.iter().map(|alarm| format!("{} ", alarm.alarm().as_str_name()));
            Err(format!("Active Alarm(s): {}", names.collect::<String>()))
        }
        Err(_) => Err("Unable to fetch the alarm list".to_owned()),
    }
}

/// `endpoint status`
pub(crate) async fn status(mut run: Invocation) -> Result<(), Failure> {
    let settings = run.settings()?;
    let mut replies = Vec::new();
    let mut failed = false;
    for endpoint in endpoints(&run, &settings).await? {
        match ask(&settings, &endpoint, pb::StatusRequest {}).await {
            Ok(reply) => replies.push((endpoint, reply)),
            Err(failure) => {
                eprintln!("Failed to get the status of endpoint {endpoint} ({})", failure.message);
                failed = true;
            }
        }
    }
    printer(&settings).print(Reply::EndpointStatus(&replies))?;
    if failed { Err(Failure::new(failure::SERVER, "")) } else { Ok(()) }
}

/// `endpoint hashkv`
pub(crate) async fn hash_kv(mut run: Invocation) -> Result<(), Failure> {
    let settings = run.settings()?;
    let revision = run.values.int("rev");
    let mut replies = Vec::new();
    let mut last_failure = None;
    for endpoint in endpoints(&run, &settings).await? {
        match ask(&settings, &endpoint, pb::HashKvRequest { revision }).await {
            Ok(reply) => replies.push((endpoint, reply)),
            Err(failure) => {
                eprintln!("Failed to get the hash of endpoint {endpoint} ({})", failure.message);
                last_failure = Some(failure);
            }
        }
    }
    printer(&settings).print(Reply::EndpointHashKv(&replies))?;
    last_failure.map_or(Ok(()), Err)
}

/// `defrag`
pub(crate) async fn defragment(mut run: Invocation) -> Result<(), Failure> {
    let settings = run.settings()?;
    let mut failed = false;
    for endpoint in endpoints(&run, &settings).await? {
        let started = Instant::now();
        let result = ask(&settings, &endpoint, pb::DefragmentRequest {}).await;
        let took = duration_text(started.elapsed());
        match result {
            Ok(_) => {
                let line = format!("Finished defragmenting etcd member[{endpoint}]. took {took}\n");
                write_out(line.as_bytes())?;
            }
            Err(failure) => {
                let reason = failure.message;
                eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({reason})");
                failed = true;
            }
        }
    }
    if failed { Err(Failure::new(failure::SERVER, "")) } else { Ok(()) }
}

/// `move-leader`
pub(crate) async fn move_leader(mut run: Invocation) -> Result<(), Failure> {
    let [target] = run.words() else { return Err(Failure::arguments("move-leader command needs 1 argument")) };
    let target = parse_uint(target, 16).map_err(Failure::arguments)?;
    let settings = run.settings()?;
    if settings.endpoints.is_empty() {
        Client::new(&settings).await?;
    }
    for endpoint in &settings.endpoints {
        let mut client = Client::of_endpoints(&settings, vec![endpoint.clone()]).await?;
        let deadline = client.command_deadline();
        let status = client.call(pb::StatusRequest {}, deadline).await?;
        let leader = status.leader;
        if status.header.unwrap_or_default().member_id != leader {
            continue;
        }
        let reply = client.call(pb::MoveLeaderRequest { target_id: target }, deadline).await?;
        return printer(&settings).print(Reply::MoveLeader { leader, target, reply: &reply });
    }
    let message = format!("no leader endpoint given at [{}]", settings.endpoints.join(" "));
    Err(Failure::arguments(message))
}
