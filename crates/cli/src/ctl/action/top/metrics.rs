//! What `top` reads of a member's `/metrics`: sums over labels, and the buckets of histograms.

use std::collections::BTreeMap;

/// A page of metrics, each summed over its labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metrics {
    sums: BTreeMap<String, f64>,
    /// Calls that were answered with an error.
    pub(super) failed: f64,
    /// By name: the upper bounds in seconds, and how many values are at or below each.
    buckets: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Metrics {
    /// Reads a page in the text form of Prometheus; lines that are none are passed over.
    pub(super) fn parse(page: &str) -> Self {
        let mut metrics = Self::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            if let Some(name) = name.strip_suffix("_bucket") {
                let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
                let Some(Ok(bound)) = bound.map(|bound| bound.replace("+Inf", "inf").parse::<f64>()) else { continue };
                let buckets = metrics.buckets.entry(name.to_owned()).or_default();
                match buckets.iter_mut().find(|(known, _)| *known == bound) {
                    Some((_, count)) => *count += value,
                    None => buckets.push((bound, value)),
                }
            } else {
                *metrics.sums.entry(name.to_owned()).or_default() += value;
                if name == "grpc_server_handled_total" && !labels.contains("grpc_code=\"OK\"") {
                    metrics.failed += value;
                }
            }
        }
        metrics
    }

    /// A counter or gauge; 0 when the page has none.
    pub(super) fn sum(&self, name: &str) -> f64 {
        self.sums.get(name).copied().unwrap_or_default()
    }

    /// The 99th percentile, in seconds, of what a histogram counted since `before`; `None`: nothing.
    pub(super) fn percentile_99_s(&self, before: &Self, name: &str) -> Option<f64> {
        let earlier = before.buckets.get(name);
        let count_before = |bound: f64| {
            let found = earlier.and_then(|buckets| buckets.iter().find(|(known, _)| *known == bound));
            found.map_or(0.0, |(_, count)| *count)
        };
        let mut grown: Vec<(f64, f64)> =
            self.buckets.get(name)?.iter().map(|&(bound, count)| (bound, count - count_before(bound))).collect();
        grown.sort_by(|one, other| one.0.total_cmp(&other.0));
        let all = grown.last()?.1;
        if all <= 0.0 {
            return None;
        }
        let (mut floor, mut below) = (0.0, 0.0);
        for (bound, reached) in grown {
            if bound.is_infinite() {
                break;
            }
            if reached >= all * 0.99 {
                // As if the values of a bucket were spread evenly.
                let share = if reached > below { (all * 0.99 - below) / (reached - below) } else { 1.0 };
                return Some(floor + (bound - floor) * share);
            }
            (floor, below) = (bound, reached);
        }
        Some(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_summed_and_failures_counted_apart() {
        let page = "# HELP x y\ngrpc_server_handled_total{grpc_code=\"OK\",m=\"a\"} 7\n\
                    grpc_server_handled_total{grpc_code=\"NotFound\",m=\"a\"} 2\nplain 1.5e3\nnonsense\n";
        let metrics = Metrics::parse(page);
        assert_eq!((metrics.sum("grpc_server_handled_total"), metrics.failed), (9.0, 2.0));
        assert_eq!((metrics.sum("plain"), metrics.sum("unknown")), (1500.0, 0.0));
    }

    #[test]
    fn percentiles_are_of_what_came_since() {
        let page = |first: u32, second: u32, all: u32| {
            let line = |bound: &str, count: u32| format!("t_bucket{{op=\"a\",le=\"{bound}\"}} {count}\n");
            Metrics::parse(&[line("0.1", first), line("0.2", second), line("+Inf", all)].concat())
        };
        let before = page(50, 50, 50);
        let near = |value: Option<f64>, wanted: f64| value.is_some_and(|value| (value - wanted).abs() < 1e-9);
        assert_eq!(before.percentile_99_s(&before, "t"), None);
        assert!(near(page(150, 150, 150).percentile_99_s(&before, "t"), 0.099));
        assert!(near(page(50, 150, 150).percentile_99_s(&before, "t"), 0.199));
        assert!(near(page(50, 50, 150).percentile_99_s(&before, "t"), 0.2), "beyond the last bound");
        assert_eq!(before.percentile_99_s(&before, "unknown"), None);
    }
}
