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
    pub(crate) fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Value) {
        self.labelled(kind, name, help, [(String::new(), value)]);
    }

    /// A metric with one line per set of labels (`name="value",...`, sorted by name; see [`label`]); left out when
    /// there are none.
    pub(crate) fn labelled<V: Value>(
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
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_none() {
            return;
        }
        let text = self.family(name, help, kind);
        for (labels, value) in lines {
            let braces = if labels.is_empty() { ("", "") } else { ("{", "}") };
            let value = go_number(value.value());
            writeln!(text, "{name}{}{labels}{} {value}", braces.0, braces.1).expect("writing to a string can't fail");
        }
    }

    /// A histogram, with one part per set of labels; left out when there are none.
    pub(crate) fn histogram<'a>(
        &mut self,
        name: &str,
        help: &str,
        parts: impl IntoIterator<Item = (String, &'a Histogram)>,
    ) {
        let mut parts = parts.into_iter().peekable();
        if parts.peek().is_none() {
            return;
        }
        let text = self.family(name, help, "histogram");
        for (labels, histogram) in parts {
            let (buckets, count, sum) = histogram.read();
            let before = if labels.is_empty() { String::new() } else { format!("{labels},") };
            let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            for (bound, below) in buckets {
                writeln!(text, "{name}_bucket{{{before}le=\"{}\"}} {}", go_number(bound), go_number(below as f64))
                    .expect("a string");
            }
            writeln!(text, "{name}_bucket{{{before}le=\"+Inf\"}} {}", go_number(count as f64)).expect("a string");
            let (sum, count) = (go_number(sum), go_number(count as f64));
            writeln!(text, "{name}_sum{braced} {sum}\n{name}_count{braced} {count}").expect("a string");
        }
    }

    /// The page.
    pub(crate) fn finish(mut self) -> String {
        self.families.sort();
        self.families.into_iter().map(|(_, text)| text).collect()
    }
}

/// What a metric may be. Prometheus' numbers are floating.
pub(crate) trait Value {
    fn value(&self) -> f64;
}

impl Value for u64 {
    fn value(&self) -> f64 {
        *self as f64
    }
}

impl Value for i64 {
    fn value(&self) -> f64 {
        *self as f64
    }
}

impl Value for f64 {
    fn value(&self) -> f64 {
        *self
    }
}

/// A number as Go's library prints it, since scripts read these pages as text: the shortest digits, with an exponent
/// from a million on and below a ten-thousandth.
fn go_number(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if value != 0.0 && !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => value.to_string(),
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
    fn numbers_are_gos() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (999_999.0, "999999"),
            (1_000_000.0, "1e+06"),
            (2_147_483_648.0, "2.147483648e+09"),
            (0.0001, "0.0001"),
            (0.000_052_5, "5.25e-05"),
            (-1.0, "-1"),
            (1.03, "1.03"),
            (1.258350592e10, "1.258350592e+10"),
        ] {
            assert_eq!(go_number(value), text);
        }
    }

    #[test]
    fn a_family_without_lines_is_left_out() {
        let mut exposition = Exposition::default();
        exposition.labelled(Kind::Gauge, "a", "Nothing.", Vec::<(String, u64)>::new());
        assert_eq!(exposition.finish(), "");
    }

    #[test]
    fn the_page_is_sorted_and_complete() {
        let mut exposition = Exposition::default();
        exposition.single(Kind::Gauge, "b_size", "A size.", 7u64);
        exposition.labelled(
            Kind::Counter,
            "a_total",
            "Some.",
            [(label("who", "x\"\\\n"), 1u64), (label("who", "y"), 2u64)],
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
