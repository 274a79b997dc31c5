//! Whether this member serves: `/health`, `/livez`, `/readyz`.

use crate::api::ClientSurface;
use crate::grpc::body::ReplyBody;
use crate::grpc::status::Status;
use crate::http::{TEXT, content, parameters, refusal};
use http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use quorate_proto::etcdserverpb::{AlarmMember, AlarmType, RangeRequest};
use serde_json::json;
use std::fmt::Write;
use std::time::Duration;

/// The key that the checks read; whether it exists does not matter.
const HEALTH_KEY: &[u8] = b"health";

/// How long a linearizable read may take before the member counts as not ready.
const LINEARIZABLE_READ_MAX: Duration = Duration::from_millis(1_500);

/// `/health`.
pub(super) async fn health(surface: &ClientSurface, query: &str) -> Response<ReplyBody> {
    let serializable = parameters(query, "serializable").next() == Some("true");
    match unhealthy(surface, serializable, &excluded(query)).await {
        None => {
            surface.metrics.health_successes.increment();
            content(TEXT, health_text(None))
        }
        Some(reason) => {
            surface.metrics.health_failures.increment();
            let output = health_text(Some(&reason));
            tracing::warn!(output, "status-code" = 503_u64, "/health error");
            refusal(StatusCode::SERVICE_UNAVAILABLE, output + "\n")
        }
    }
}

fn health_text(reason: Option<&str>) -> String {
    let healthy = if reason.is_none() { "true" } else { "false" };
    format!("{{\"health\":\"{healthy}\",\"reason\":{}}}", json!(reason.unwrap_or("")))
}

/// Alarms that the caller does not mind.
fn excluded(query: &str) -> Vec<&str> {
    parameters(query, "exclude").collect()
}

async fn unhealthy(surface: &ClientSurface, serializable: bool, excluded: &[&str]) -> Option<String> {
    for alarm in concerning(surface) {
        let name = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        if !excluded.contains(&name) {
            return Some(format!("ALARM {name}"));
        }
    }
    if serializable {
        return serializable_read(surface).err().map(|text| format!("RANGE ERROR:{text}"));
    }
    if surface.backend.status().leader == 0 {
        return Some("RAFT NO LEADER".to_owned());
    }
    linearizable_read(surface).await.err().map(|text| format!("RANGE ERROR:{text}"))
}

/// Which of the two checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Live,
    Ready,
}

const SERIALIZABLE_READ: &str = "serializable_read";
const LINEARIZABLE_READ: &str = "linearizable_read";
const DATA_CORRUPTION: &str = "data_corruption";
const NON_LEARNER: &str = "non_learner";

impl Probe {
    /// The page's name in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
        }
    }

    fn checks(self) -> &'static [&'static str] {
        match self {
            Self::Live => &[SERIALIZABLE_READ],
            Self::Ready => &[LINEARIZABLE_READ, NON_LEARNER, DATA_CORRUPTION, SERIALIZABLE_READ],
        }
    }

    /// The page and, when the path names one, its only check: `/readyz`, `/readyz/non_learner`.
    pub(super) fn find(path: &str) -> Option<(Self, Option<&'static str>)> {
        for (probe, page) in [(Self::Live, "/livez"), (Self::Ready, "/readyz")] {
            match path.strip_prefix(page) {
                Some("") => return Some((probe, None)),
                Some(rest) => {
                    let wanted = rest.strip_prefix('/')?;
                    return probe.checks().iter().find(|&&check| check == wanted).map(|&check| (probe, Some(check)));
                }
                None => {}
            }
        }
        None
    }
}

/// `/livez`, `/readyz`, or one of their checks.
pub(super) async fn check(
    surface: &ClientSurface,
    probe: Probe,
    only: Option<&'static str>,
    query: &str,
) -> Response<ReplyBody> {
    let verbose = parameters(query, "verbose").next().is_some();
    let excluded = excluded(query);
    let mut results = Vec::with_capacity(probe.checks().len());
    for &name in probe.checks() {
        let wanted = only.map_or_else(|| !excluded.contains(&name), |only| only == name);
        if !wanted {
            continue;
        }
        let result = match name {
            SERIALIZABLE_READ => serializable_read(surface),
            LINEARIZABLE_READ => linearizable_read(surface).await,
            DATA_CORRUPTION => no_corruption(surface),
            _ if surface.backend.status().is_learner => Err("not supported for learner".to_owned()),
            _ => Ok(()),
        };
        surface.metrics.checked(probe.name(), name, result.is_ok());
        results.push((name, result));
    }
    let (healthy, text) = report(&results, verbose);
    if healthy {
        let mut response = content(TEXT, text);
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        return response;
    }
    let path = only.map_or_else(|| format!("/{}", probe.name()), |only| format!("/{}/{only}", probe.name()));
    tracing::error!(path, reason = text, "status-code" = 503_u64, "Health check error");
    refusal(StatusCode::SERVICE_UNAVAILABLE, text + "\n")
}

/// The lines, and whether all is well. Without `verbose`, only what failed is told.
fn report(results: &[(&str, Result<(), String>)], verbose: bool) -> (bool, String) {
    let healthy = results.iter().all(|(_, result)| result.is_ok());
    let mut text = String::new();
    if verbose || !healthy {
        for (name, result) in results {
            match result {
                Ok(()) => writeln!(text, "[+]{name} ok"),
                Err(reason) => writeln!(text, "[-]{name} failed: {reason}"),
            }
            .expect("writing to a string can't fail");
        }
    }
    if healthy {
        text.push_str("ok\n");
    }
    (healthy, text)
}

/// The alarms that concern this member: all, but for those that the cluster raised over another one's data.
fn concerning(surface: &ClientSurface) -> Vec<AlarmMember> {
    let reader = surface.backend.reader();
    let (own_id, own_alarms) = (surface.backend.identity().member_id, reader.own_alarms());
    let corrupt = AlarmType::Corrupt as i32;
    let concerns_another = |alarm: &AlarmMember| {
        alarm.alarm == corrupt && alarm.member_id != 0 && alarm.member_id != own_id && own_alarms.contains(alarm)
    };
    let mut alarms = reader.alarms();
    alarms.retain(|alarm| !concerns_another(alarm));
    if reader.is_quarantined() && !alarms.iter().any(|alarm| alarm.alarm == corrupt) {
        alarms.push(AlarmMember { member_id: own_id, alarm: corrupt });
    }
    alarms
}

fn serializable_read(surface: &ClientSurface) -> Result<(), String> {
    let request = RangeRequest { key: HEALTH_KEY.into(), limit: 1, serializable: true, ..Default::default() };
    match surface.backend.reader().range(&request) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn linearizable_read(surface: &ClientSurface) -> Result<(), String> {
    match tokio::time::timeout(LINEARIZABLE_READ_MAX, surface.backend.read_barrier()).await {
        Ok(Ok(())) => serializable_read(surface),
        Ok(Err(error)) => Err(Status::from(error).message.into_owned()),
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

fn no_corruption(surface: &ClientSurface) -> Result<(), String> {
    let corrupt = concerning(surface).iter().any(|alarm| alarm.alarm == AlarmType::Corrupt as i32);
    if corrupt { Err("alarm activated: CORRUPT".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_single_checks_are_found() {
        assert_eq!(Probe::find("/livez"), Some((Probe::Live, None)));
        assert_eq!(Probe::find("/readyz/non_learner"), Some((Probe::Ready, Some(NON_LEARNER))));
        for path in ["/livez/", "/livez/non_learner", "/readyz/x", "/readyzx", "/", ""] {
            assert_eq!(Probe::find(path), None, "{path}");
        }
    }

    #[test]
    fn health_has_a_reason() {
        assert_eq!(health_text(None), r#"{"health":"true","reason":""}"#);
        assert_eq!(health_text(Some("ALARM NOSPACE")), r#"{"health":"false","reason":"ALARM NOSPACE"}"#);
    }

    #[test]
    fn the_report_lists_checks() {
        let good = [(LINEARIZABLE_READ, Ok(())), (NON_LEARNER, Ok(()))];
        assert_eq!(report(&good, false), (true, "ok\n".to_owned()));
        assert_eq!(report(&good, true), (true, "[+]linearizable_read ok\n[+]non_learner ok\nok\n".to_owned()));
        let bad = [(LINEARIZABLE_READ, Err("etcdserver: leader changed".to_owned())), (NON_LEARNER, Ok(()))];
        let text = "[-]linearizable_read failed: etcdserver: leader changed\n[+]non_learner ok\n";
        assert_eq!(report(&bad, false), (false, text.to_owned()));
    }
}
