//! `cluster-health`, and `backup`, which works on the files of a member that does not run.

use super::http::{Asked, Client};
use super::members::listed;
use super::run::{Context, HEALTH_PAUSE};
use super::show::{print, text};
use super::{Exit, SERVER, UNHEALTHY};
use crate::ctl::interrupt::Interrupt;
use serde_json::Value;

/// What a member's page says, or why it says nothing.
async fn is_healthy(client: &Client, url: &str, deadline: Option<tokio::time::Instant>) -> Result<bool, String> {
    let Client { timeout, debug, .. } = *client;
    let endpoints = vec![url.to_owned()];
    let client = Client { endpoints, tls: client.tls.clone(), credentials: None, timeout, debug };
    let asked = Asked::new("GET", "/health");
    match client.ask_raw(&asked, deadline).await {
        Err(reason) => Err(format!("Get \"{url}/health\": {reason}")),
        Ok(answer) => match serde_json::from_slice::<Value>(&answer.body) {
            Ok(page) => Ok(page["health"] == "true" || page["health"] == true),
            Err(error) => Err(error.to_string()),
        },
    }
}

pub(super) async fn cluster_health(context: Context) -> Result<(), Exit> {
    let mut interrupt = Interrupt::listen().map_err(|failure| Exit::usage(failure.message))?;
    let client = context.client_as_told()?;
    if client.debug {
        eprintln!("Cluster-Endpoints: {}", client.endpoints.join(", "));
    }
    let members = match listed(&client, None).await {
        Ok(members) => members,
        Err(fault) => {
            print("cluster may be unhealthy: failed to list members\n")?;
            return Err(Exit::error(SERVER, &fault));
        }
    };
    loop {
        let mut healthy = 0;
        for member in &members {
            healthy += usize::from(check(&context, &client, member).await?);
        }
        print(match healthy {
            healthy if healthy == members.len() => "cluster is healthy\n",
            0 => "cluster is unavailable\n",
            _ => "cluster is degraded\n",
        })?;
        if !context.given.is_set("forever") {
            let code = UNHEALTHY;
            return if healthy == members.len() { Ok(()) } else { Err(Exit { code, text: String::new() }) };
        }
        print("\nnext check after 10 second...\n\n")?;
        tokio::select! {
            () = tokio::time::sleep(HEALTH_PAUSE) => {}
            () = interrupt.wait() => return Ok(()),
        }
    }
}

/// Tells how a member is; whether it is well.
async fn check(context: &Context, client: &Client, member: &Value) -> Result<bool, Exit> {
    let id = text(member, "id");
    let urls: Vec<&str> = member["clientURLs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if urls.is_empty() {
        print(&format!("member {id} is unreachable: no available published client urls\n"))?;
        return Ok(false);
    }
    for url in &urls {
        match is_healthy(client, url, context.deadline()).await {
            Ok(true) => {
                print(&format!("member {id} is healthy: got healthy result from {url}\n"))?;
                return Ok(true);
            }
            Ok(false) => {
                print(&format!("member {id} is unhealthy: got unhealthy result from {url}\n"))?;
                return Ok(false);
            }
            Err(reason) => print(&format!("failed to check the health of member {id} on {url}: {reason}\n"))?,
        }
    }
    print(&format!("member {id} is unreachable: [{}] are all unreachable\n", urls.join(" ")))?;
    Ok(false)
}

/// etcd's copies a folder of its own kind. Here a running member is asked, over v3, and holds v2's keys as well.
pub(super) async fn backup(_: Context) -> Result<(), Exit> {
    Err(Exit::usage(
        "backup: a data folder is not copied by this command: ask a running member with \
         `ETCDCTL_API=3 etcdctl snapshot save FILE`, or stop the member and copy its folder as a whole",
    ))
}
