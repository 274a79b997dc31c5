//! Prometheus' text format.

use crate::metrics::Histogram;
use std::fmt::{Display, Write};

/// Kinds of metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
}

/// Metrics written as text; sorted by name when finished.
#[derive(Default)]
pub(crate) struct Exposition {
    families: Vec<(String, String)>,
}

impl Exposition {
    fn family(&mut self, name: &str, help: &str, kind: &str) -> &mut String {
        self.families.push((name.to_owned(), format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")));
        &mut self.families.last_mut().expect("pushed above").1
    }

    /// A metric without labels.
    pub(crate) fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.labelled(kind, name, help, [(String::new(), value)]);
    }

    /// A metric with one line per set of labels (`name="value",...`, sorted by name; see [`label`]).
    pub(crate) fn labelled<V: Display>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (String, V)>,
    ) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let text = self.family(name, help, kind);
        for (labels, value) in lines {
            let braces = if labels.is_empty() { ("", "") } else { ("{", "}") };
            writeln!(text, "{name}{}{labels}{} {value}", braces.0, braces.1).expect("writing to a string can't fail");
        }
    }

    /// A histogram, with one part per set of labels.
    pub(crate) fn histogram<'a>(
        &mut self,
        name: &str,
        help: &str,
        parts: impl IntoIterator<Item = (String, &'a Histogram)>,
    ) {
        let text = self.family(name, help, "histogram");
        for (labels, histogram) in parts {
            let (buckets, count, sum) = histogram.read();
            let before = if labels.is_empty() { String::new() } else { format!("{labels},") };
            let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            for (bound, below) in buckets {
                writeln!(text, "{name}_bucket{{{before}le=\"{bound}\"}} {below}").expect("a string");
            }
            writeln!(text, "{name}_bucket{{{before}le=\"+Inf\"}} {count}").expect("a string");
            writeln!(text, "{name}_sum{braced} {sum}\n{name}_count{braced} {count}").expect("a string");
        }
    }

    /// The page.
    pub(crate) fn finish(mut self) -> String {
        self.families.sort();
        self.families.into_iter().map(|(_, text)| text).collect()
    }
}

/// One label, its value escaped.
pub(crate) fn label(name: &str, value: impl Display) -> String {
    let value = value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_sorted_and_complete() {
        let mut exposition = Exposition::default();
        exposition.single(Kind::Gauge, "b_size", "A size.", 7);
        exposition.labelled(
            Kind::Counter,
            "a_total",
            "Some.",
            [(label("who", "x\"\\\n"), 1u64), (label("who", "y"), 2)],
        );
        let histogram = Histogram::exponential(0.5, 2.0, 2);
        histogram.observe(0.75);
        exposition.histogram("c_seconds", "Times.", [(label("ok", true), &histogram)]);
        assert_eq!(
            exposition.finish(),
            "# HELP a_total Some.\n# TYPE a_total counter\na_total{who=\"x\\\"\\\\\\n\"} 1\na_total{who=\"y\"} 2\n\
             # HELP b_size A size.\n# TYPE b_size gauge\nb_size 7\n\
             # HELP c_seconds Times.\n# TYPE c_seconds histogram\nc_seconds_bucket{ok=\"true\",le=\"0.5\"} 0\n\
             c_seconds_bucket{ok=\"true\",le=\"1\"} 1\nc_seconds_bucket{ok=\"true\",le=\"+Inf\"} 1\n\
             c_seconds_sum{ok=\"true\"} 0.75\nc_seconds_count{ok=\"true\"} 1\n"
        );
    }
}
