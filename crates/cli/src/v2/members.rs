//! `member`: who the members are, and changes of them.

use super::Exit;
use super::http::{Asked, Client, Fault};
use super::run::{Context, expect_json};
use super::show::{print, text};
use serde_json::{Value, json};
use tokio::time::Instant;

fn told(fault: &Fault) -> Exit {
    Exit::usage(fault)
}

/// The members as the cluster lists them.
///
/// # Errors
/// No answer, or another than a list.
pub(super) async fn listed(client: &Client, deadline: Option<Instant>) -> Result<Vec<Value>, Fault> {
    let answer = client.ask(&Asked::new("GET", "/v2/members"), deadline).await?;
    Ok(expect_json(&answer, &[200])?["members"].as_array().cloned().unwrap_or_default())
}

fn urls(member: &Value, name: &str) -> Vec<String> {
    let urls = member[name].as_array().into_iter().flatten();
    urls.filter_map(|url| Some(url.as_str()?.to_owned())).collect()
}

pub(super) async fn list(context: Context) -> Result<(), Exit> {
    if !context.words().is_empty() {
        return Err(Exit::usage("No arguments accepted"));
    }
    let (client, deadline) = (context.client().await?, context.deadline());
    let members = listed(&client, deadline).await.map_err(|fault| told(&fault))?;
    let answer = client.ask(&Asked::new("GET", "/v2/members/leader"), deadline).await;
    let leader = answer.and_then(|answer| expect_json(&answer, &[200]));
    let leader = leader.map_err(|fault| Exit::usage(format!("Failed to get leader:  {fault}")))?;
    let mut out = String::new();
    for member in &members {
        let (id, name, peers) = (text(member, "id"), text(member, "name"), urls(member, "peerURLs").join(","));
        if name.is_empty() {
            out += &format!("{id}[unstarted]: peerURLs={peers}\n");
        } else {
            let (clients, is_leader) = (urls(member, "clientURLs").join(","), id == text(&leader, "id"));
            out += &format!("{id}: name={name} peerURLs={peers} clientURLs={clients} isLeader={is_leader}\n");
        }
    }
    print(&out)
}

/// What Go's client says of a URL that it does not send.
fn check_url(url: &str) -> Result<(), Exit> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(Exit::usage(format!("URL scheme must be http, https, unix, or unixs: {url}")));
    };
    if !matches!(scheme, "http" | "https" | "unix" | "unixs") {
        return Err(Exit::usage(format!("URL scheme must be http, https, unix, or unixs: {url}")));
    }
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    if scheme.starts_with("http") && host.rsplit_once(':').is_none_or(|(_, port)| port.contains(']')) {
        return Err(Exit::usage(format!("URL address does not have the form \"host:port\": {url}")));
    }
    if scheme.starts_with("http") && path.is_some() {
        return Err(Exit::usage(format!("URL must not contain a path: {url}")));
    }
    Ok(())
}

/// The document of an answer, or what it says instead.
fn judged(answer: &super::http::Answer, good: u16, told_by: &[u16]) -> Result<Value, Exit> {
    if answer.status == good {
        return Ok(serde_json::from_slice(&answer.body).unwrap_or_default());
    }
    let document = expect_json(answer, told_by).map_err(|fault| told(&fault))?;
    Err(Exit::usage(text(&document, "message")))
}

pub(super) async fn add(context: Context) -> Result<(), Exit> {
    let [name, url] = context.words() else {
        return Err(Exit::usage("Provide a name and a single member peerURL"));
    };
    let (client, deadline) = (context.client().await?, context.deadline());
    check_url(url.trim())?;
    let asked = Asked::new("POST", "/v2/members").json(&json!({"peerURLs": [url.trim()]}));
    let answer = client.ask(&asked, deadline).await.map_err(|fault| told(&fault))?;
    let added = judged(&answer, 201, &[409])?;
    let id = text(&added, "id");
    print(&format!("Added member named {name} with ID {id} to cluster\n"))?;
    let members = listed(&client, deadline).await.map_err(|fault| told(&fault))?;
    let mut cluster = Vec::new();
    for member in &members {
        let own = if text(member, "id") == id { name } else { text(member, "name") };
        cluster.extend(urls(member, "peerURLs").iter().map(|url| format!("{own}={url}")));
    }
    let cluster = cluster.join(",");
    print(&format!("\nETCD_NAME={name:?}\nETCD_INITIAL_CLUSTER={cluster:?}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n"))
}

pub(super) async fn remove(context: Context) -> Result<(), Exit> {
    let [id] = context.words() else {
        return Err(Exit::usage("Provide a single member ID"));
    };
    let (client, deadline) = (context.client().await?, context.deadline());
    let members = listed(&client, deadline).await;
    let members =
        members.map_err(|fault| Exit::usage(format!("Error while verifying ID against known members: {fault}")))?;
    for member in members.iter().filter(|member| text(member, "name") == id) {
        let (name, id) = (text(member, "name"), text(member, "id"));
        eprintln!(
            "Found a member named {name}; if this is correct, please use its ID, eg:\n\tetcdctl member remove {id}\n\
             For more details, read the documentation at \
             https://github.com/etcd-io/etcd/blob/master/Documentation/runtime-configuration.md#remove-a-member\n"
        );
    }
    if !members.iter().any(|member| text(member, "id") == id) {
        return Err(Exit::usage(format!("Couldn't find a member in the cluster with an ID of {id}.")));
    }
    let refused = |reason: String| Exit {
        code: super::USAGE,
        text: format!("Received an error trying to remove member {id}: {reason}"),
    };
    let answer = client.ask(&Asked::new("DELETE", format!("/v2/members/{id}")), deadline).await;
    let answer = answer.map_err(|fault| refused(fault.to_string()))?;
    if !matches!(answer.status, 204 | 410) {
        return Err(refused(format!("unexpected status code {}", answer.status)));
    }
    print(&format!("Removed member {id} from cluster\n"))
}

pub(super) async fn update(context: Context) -> Result<(), Exit> {
    let [id, list] = context.words() else {
        return Err(Exit::usage(
            "Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)",
        ));
    };
    let (client, deadline) = (context.client().await?, context.deadline());
    let mut urls: Vec<&str> = list.split(',').map(str::trim).collect();
    urls.iter().try_for_each(|url| check_url(url))?;
    urls.sort_unstable();
    let asked = Asked::new("PUT", format!("/v2/members/{id}")).json(&json!({"peerURLs": urls}));
    let answer = client.ask(&asked, deadline).await.map_err(|fault| told(&fault))?;
    judged(&answer, 204, &[404, 409])?;
    print(&format!("Updated member with ID {id} in cluster\n"))
}
