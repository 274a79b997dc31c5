//! The health of a cluster, asked once or at an interval.
//!
//! It owns the question: can each member serve a linearizable read, and what does it say of itself? It asks every member by a
//! connection of its own, so that one that is down is not hidden by the others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions, GetOptions};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, timeout};

use crate::error::{Error, Result};

/// How long a member may take to answer, if nothing else is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// How well a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// Every member serves, without alarms.
    Healthy,
    /// The cluster serves, but not every member does, or there is an alarm.
    Degraded,
    /// No member serves.
    Unhealthy,
}

/// What one member answered.
#[derive(Clone, Debug)]
pub struct EndpointHealth {
    /// Whether it served a linearizable read.
    pub is_serving: bool,
    /// How long that took.
    pub took: Duration,
    /// The member's id; 0 if it did not say.
    pub member: u64,
    /// The id of the member that it follows; 0 if none, or it did not say.
    pub leader: u64,
    /// Its term; 0 if it did not say.
    pub term: u64,
    /// Its server's version.
    pub version: String,
    /// The bytes of its database.
    pub database_bytes: u64,
    /// What it complains of: alarms, no leader, or why it did not serve.
    pub complaints: Vec<String>,
}

/// What a whole cluster answered.
#[derive(Clone, Debug)]
pub struct ClusterHealth {
    /// All in all.
    pub state: HealthState,
    /// Each member, by its address.
    pub endpoints: BTreeMap<String, EndpointHealth>,
}

/// Asks members how they are.
#[derive(Clone)]
pub struct HealthMonitor {
    endpoints: Vec<String>,
    options: ConnectOptions,
    timeout: Duration,
}

impl HealthMonitor {
    /// Asks the members at these addresses.
    ///
    /// # Errors
    /// No address.
    pub fn new(endpoints: &[String], options: ConnectOptions) -> Result<Self> {
        if endpoints.is_empty() {
            return Err(Error::InvalidSetting("no address of a member"));
        }
        Ok(Self { endpoints: endpoints.to_vec(), options, timeout: TIMEOUT_DEFAULT })
    }

    /// Asks all members that a cluster lists, by the first address that each has for clients.
    ///
    /// # Errors
    /// No member answers; the store refuses.
    pub async fn of_cluster(client: &Client, options: ConnectOptions) -> Result<Self> {
        let listed = client.clone().member_list().await.map_err(|error| Error::Refused(std::sync::Arc::new(error)))?;
        let urls = listed.members().iter().filter_map(|member| member.client_urls().first().cloned());
        Self::new(&urls.collect::<Vec<_>>(), options)
    }

    /// The same with another limit of time for an answer.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Asks once.
    pub async fn check(&self) -> ClusterHealth {
        let mut asked = JoinSet::new();
        for endpoint in &self.endpoints {
            let (endpoint, options, limit) = (endpoint.clone(), self.options.clone(), self.timeout);
            asked.spawn(async move {
                let health = ask(&endpoint, options, limit).await;
                (endpoint, health)
            });
        }
        let endpoints: BTreeMap<String, EndpointHealth> = asked.join_all().await.into_iter().collect();
        let serving = endpoints.values().filter(|endpoint| endpoint.is_serving).count();
        let state = if serving == 0 {
            HealthState::Unhealthy
        } else if serving < endpoints.len() || endpoints.values().any(|endpoint| !endpoint.complaints.is_empty()) {
            HealthState::Degraded
        } else {
            HealthState::Healthy
        };
        ClusterHealth { state, endpoints }
    }

    /// Asks at once and then at an interval, until what is returned is dropped.
    #[must_use]
    pub fn every(&self, interval: Duration) -> HealthStream {
        let (sender, newest) = watch::channel(None);
        let monitor = self.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                sender.send_replace(Some(monitor.check().await));
            }
        });
        HealthStream { newest, task: task.abort_handle() }
    }
}

/// The answers of a cluster that is asked at an interval. Dropping it ends the asking.
pub struct HealthStream {
    newest: watch::Receiver<Option<ClusterHealth>>,
    task: AbortHandle,
}

impl HealthStream {
    /// The next answer; the newest, if the caller was slow.
    ///
    /// # Errors
    /// The asking ended with its runtime.
    pub async fn next(&mut self) -> Result<ClusterHealth> {
        loop {
            self.newest.changed().await.map_err(|_| Error::Stopped)?;
            if let Some(newest) = self.newest.borrow_and_update().clone() {
                return Ok(newest);
            }
        }
    }

    /// The next answer with another state than this one.
    ///
    /// # Errors
    /// As [`HealthStream::next`].
    pub async fn changed_from(&mut self, state: HealthState) -> Result<ClusterHealth> {
        loop {
            let health = self.next().await?;
            if health.state != state {
                return Ok(health);
            }
        }
    }
}

impl Drop for HealthStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask(endpoint: &str, options: ConnectOptions, limit: Duration) -> EndpointHealth {
    let started = Instant::now();
    let mut health = EndpointHealth {
        is_serving: false,
        took: Duration::ZERO,
        member: 0,
        leader: 0,
        term: 0,
        version: String::new(),
        database_bytes: 0,
        complaints: Vec::new(),
    };
    let mut client = match timeout(limit, Client::connect([endpoint], Some(options))).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => {
            health.complaints.push(error.to_string());
            return health;
        }
        Err(_) => {
            health.complaints.push("no connection in time".to_owned());
            return health;
        }
    };
    let mut reader = client.kv_client();
    // Linearizable: a quorum has to answer. Whoever may not read has been answered by one as well.
    let read = timeout(limit, reader.get("health", Some(GetOptions::new().with_count_only())));
    let (read, status) = tokio::join!(read, timeout(limit, client.status()));
    health.took = started.elapsed();
    match read {
        Ok(Ok(_)) => health.is_serving = true,
        Ok(Err(error)) if error.to_string().contains("permission denied") => health.is_serving = true,
        Ok(Err(error)) => health.complaints.push(error.to_string()),
        Err(_) => health.complaints.push("no answer to a read in time".to_owned()),
    }
    let status = match status {
        Ok(Ok(status)) => Some(status),
        Ok(Err(error)) => {
            health.complaints.push(format!("no status: {error}"));
            None
        }
        Err(_) => {
            health.complaints.push("no status in time".to_owned());
            None
        }
    };
    if let Some(status) = status {
        health.member = status.header().map_or(0, etcd_client::ResponseHeader::member_id);
        (health.leader, health.term) = (status.leader(), status.raft_term());
        status.version().clone_into(&mut health.version);
        health.database_bytes = status.db_size().unsigned_abs();
        health.complaints.extend(status.errors().iter().cloned());
    }
    health
}
