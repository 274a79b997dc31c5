//! `member`: add, list, promote, remove, update.
//!
//! Not here: starting members. The invariant: peer URLs that no member could listen on are refused before they are
//! sent.

use quorate_proto::etcdserverpb as pb;

use crate::command_line::go_text::{parse_uint, quote};
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::Reply;

pub(super) const NO_PEER_URLS: &str = "member peer urls not provided";

/// `member add`
pub(crate) async fn add(mut run: Invocation) -> Result<(), Failure> {
    let name = match run.words() {
        [] => return Err(Failure::arguments("member name not provided")),
        [name] => name.clone(),
        _ => return Err(Failure::arguments("too many arguments")),
    };
    let peer_urls = run.values.texts("peer-urls");
    if peer_urls.is_empty() {
        return Err(Failure::arguments(NO_PEER_URLS));
    }
    // Only `quorate ctl` knows the flag.
    let auto_promote = run.values.is_given("auto-promote") && run.values.is_set("auto-promote");
    let is_learner = run.values.is_set("learner") || auto_promote;
    let (mut client, printer) = run.client().await?;
    check_urls(&peer_urls)?;
    let deadline = client.command_deadline();
    let request = pb::MemberAddRequest { peer_ur_ls: peer_urls, is_learner, auto_promote };
    let reply = client.call(request, deadline).await?;
    printer.print(Reply::MemberAdd { name: &name, reply: &reply })
}

/// `member list`
pub(crate) async fn list(mut run: Invocation) -> Result<(), Failure> {
    let consistency = run.values.text("consistency").to_owned();
    let linearizable = match consistency.as_str() {
        "l" => true,
        "s" => false,
        // etcdctl names the default here, whatever was given.
        _ => return Err(Failure::new(failure::FEATURE, "unknown consistency flag \"l\"")),
    };
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::MemberListRequest { linearizable }, deadline).await?;
    printer.print(Reply::MemberList(&reply))
}

/// `member promote`
pub(crate) async fn promote(mut run: Invocation) -> Result<(), Failure> {
    let member = member_word(&run)?;
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::MemberPromoteRequest { id: member }, deadline).await?;
    printer.print(Reply::MemberPromote { member, reply: &reply })
}

/// `member remove`
pub(crate) async fn remove(mut run: Invocation) -> Result<(), Failure> {
    let member = member_word(&run)?;
    let (mut client, printer) = run.client().await?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::MemberRemoveRequest { id: member }, deadline).await?;
    printer.print(Reply::MemberRemove { member, reply: &reply })
}

/// `member update`
pub(crate) async fn update(mut run: Invocation) -> Result<(), Failure> {
    let member = member_word(&run)?;
    let peer_ur_ls = run.values.texts("peer-urls");
    if peer_ur_ls.is_empty() {
        return Err(Failure::arguments(NO_PEER_URLS));
    }
    let (mut client, printer) = run.client().await?;
    check_urls(&peer_ur_ls)?;
    let deadline = client.command_deadline();
    let reply = client.call(pb::MemberUpdateRequest { id: member, peer_ur_ls }, deadline).await?;
    printer.print(Reply::MemberUpdate { member, reply: &reply })
}

fn member_word(run: &Invocation) -> Result<u64, Failure> {
    let [member] = run.words() else { return Err(Failure::arguments("member ID is not provided")) };
    parse_uint(member, 16)
        .map_err(|reason| Failure::arguments(format!("bad member ID arg ({reason}), expecting ID in Hex")))
}

/// Refuses URLs on which no member can listen.
pub(super) fn check_urls(urls: &[String]) -> Result<(), Failure> {
    urls.iter().try_for_each(|url| check_url(url.trim())).map_err(|message| Failure::new(failure::SERVER, message))
}

fn check_url(url: &str) -> Result<(), String> {
    let rest = match url.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        Some(("unix" | "unixs", _)) => return Ok(()),
        _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {url}")),
    };
    let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = address.rsplit_once(':').map(|(_, port)| port);
    if port.is_none_or(|port| port.ends_with(']')) {
        return Err(format!("URL address does not have the form \"host:port\": {url}"));
    }
    if port.is_some_and(|port| !port.chars().all(|digit| digit.is_ascii_digit())) {
        let port = port.unwrap_or_default();
        let invalid = quote(format!(":{port}").as_bytes());
        return Err(format!("parse {}: invalid port {invalid} after host", quote(url.as_bytes())));
    }
    if !path.is_empty() {
        return Err(format!("URL must not contain a path: {url}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls() {
        for good in ["http://a:1", "https://10.0.0.1:2380", "http://[::1]:2380", "unix://localhost:20001"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for (bad, message) in [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http://[::1]", "URL address does not have the form \"host:port\": http://[::1]"),
            ("http://a:1/path", "URL must not contain a path: http://a:1/path"),
            ("http://a:b", "parse \"http://a:b\": invalid port \":b\" after host"),
        ] {
            assert_eq!(check_url(bad), Err(message.to_owned()));
        }
    }
}
