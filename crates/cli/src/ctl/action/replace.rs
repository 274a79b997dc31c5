//! `member replace`: one member for another, without the quorum ever hanging on a member that does not run.
//!
//! Not here: starting members, and the promotion, which is the leader's. The invariant: a member that runs is removed only
//! when the new one has a vote; one that does not run is removed before the new one comes, which begins as a learner in
//! either case, so that a mistyped address costs nothing.

use std::time::Duration;

use quorate_proto::etcdserverpb as pb;
use tokio::time::{Instant, sleep, timeout};

use super::member::{NO_PEER_URLS, check_urls};
use crate::command_line::go_text::parse_uint;
use crate::ctl::client::{Call, Client};
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, CallError, Failure};
use crate::ctl::print::{Printer, Reply};

/// How long a member may take to prove that it runs.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// How long a change is asked for again that is refused with this: a member judges by connections of five seconds.
const HEALTHY_PATIENCE: Duration = Duration::from_secs(15);
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
/// How often the members are asked whether the new one has its vote.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// `member replace`
pub(crate) async fn replace(mut run: Invocation) -> Result<(), Failure> {
    let [id, name] = run.words() else {
        return Err(Failure::arguments("the ID of the old member and the name of the new one are needed"));
    };
    let id = parse_uint(id, 16)
        .map_err(|reason| Failure::arguments(format!("bad member ID arg ({reason}), expecting ID in Hex")))?;
    let name = name.clone();
    let peer_urls = run.values.texts("peer-urls");
    if peer_urls.is_empty() {
        return Err(Failure::arguments(NO_PEER_URLS));
    }
    let patience = run.values.duration("wait");
    let (client, printer) = run.client().await?;
    check_urls(&peer_urls)?;
    Replacement { client, printer, id, name, peer_urls, patience }.run().await
}

struct Replacement {
    client: Client,
    printer: Printer,
    id: u64,
    name: String,
    peer_urls: Vec<String>,
    patience: Duration,
}

impl Replacement {
    async fn run(mut self) -> Result<(), Failure> {
        let members = self.members().await?;
        let begun = members.iter().find(|member| member.id != self.id && self.has_its_urls(member));
        let Some(old) = members.iter().find(|member| member.id == self.id) else {
            return match begun {
                // An earlier run of the same command removed it.
                Some(new) => self.wait_for_vote(new.id).await,
                None => Err(Failure::new(failure::SERVER, "etcdserver: member not found")),
            };
        };
        if let Some(new) = begun {
            let new = new.id;
            self.wait_for_vote(new).await?;
            return self.remove().await;
        }
        if !self.has_its_urls(old) && self.runs(old).await {
            let new = self.add().await?;
            self.wait_for_vote(new).await?;
            return self.remove().await;
        }
        self.remove().await?;
        let new = self.add().await?;
        self.wait_for_vote(new).await
    }

    fn has_its_urls(&self, member: &pb::Member) -> bool {
        member.peer_ur_ls.iter().any(|url| self.peer_urls.iter().any(|own| own.trim() == url))
    }

    async fn members(&mut self) -> Result<Vec<pb::Member>, Failure> {
        let deadline = self.client.command_deadline();
        Ok(self.client.call(pb::MemberListRequest { linearizable: true }, deadline).await?.members)
    }

    /// Whether a member answers its clients.
    async fn runs(&self, member: &pb::Member) -> bool {
        let settings = self.client.settings().clone();
        let asked = async {
            let mut client = Client::of_endpoints(&settings, member.client_ur_ls.clone()).await.ok()?;
            let deadline = client.command_deadline();
            client.call(pb::StatusRequest {}, deadline).await.ok()
        };
        matches!(timeout(ANSWER_PATIENCE, asked).await, Ok(Some(_)))
    }

    async fn add(&mut self) -> Result<u64, Failure> {
        let peer_ur_ls = self.peer_urls.clone();
        let request = pb::MemberAddRequest { peer_ur_ls, is_learner: true, auto_promote: true };
        let reply = self.change(request).await?;
        self.printer.print(Reply::MemberAdd { name: &self.name, reply: &reply })?;
        Ok(reply.member.unwrap_or_default().id)
    }

    async fn remove(&mut self) -> Result<(), Failure> {
        let reply = self.change(pb::MemberRemoveRequest { id: self.id }).await?;
        self.printer.print(Reply::MemberRemove { member: self.id, reply: &reply })
    }

    /// Asks for a change until the members have been connected for long enough to be sure of the quorum.
    async fn change<Request: Call>(&mut self, request: Request) -> Result<Request::Reply, CallError> {
        let until = Instant::now() + HEALTHY_PATIENCE;
        loop {
            let deadline = self.client.command_deadline();
            match self.client.call(request.clone(), deadline).await {
                Err(error) if error.message == UNHEALTHY && Instant::now() < until => sleep(LOOK_INTERVAL).await,
                answered => return answered,
            }
        }
    }

    /// Waits until the new member runs, holds the data and was promoted.
    async fn wait_for_vote(&mut self, new: u64) -> Result<(), Failure> {
        let name = &self.name;
        eprintln!("waiting until {name} ({new:x}) runs, holds the data and has its vote");
        let deadline = Instant::now() + self.patience;
        loop {
            match self.members().await?.iter().find(|member| member.id == new) {
                None => return Err(Failure::new(failure::SERVER, format!("member {new:x} was removed meanwhile"))),
                Some(member) if !member.is_learner && !member.name.is_empty() => return Ok(()),
                Some(_) if Instant::now() >= deadline => {
                    let message = format!(
                        "member {new:x} has no vote yet: it does not run at {}, or still takes the data. Nothing else \
                         changes meanwhile. Start it and repeat this command, or take it back with `member remove {new:x}`",
                        self.peer_urls.join(",")
                    );
                    return Err(Failure::new(failure::SERVER, message));
                }
                Some(_) => sleep(LOOK_INTERVAL).await,
            }
        }
    }
}
