//! The log: one JSON object a line (or a readable line), to stderr, stdout, the journal and files.
//!
//! Owns the format and the outputs; what is said is decided where it happens, with `tracing`'s macros. The invariant:
//! whatever happens, every line is whole, and one write each. Keys, values and secrets are never logged.
//!
//! Levels beyond `tracing`'s are told by the event's target: `fatal` for what ends the process, `panic` for a broken
//! invariant.

mod calendar;
mod journal;
mod rotation;

use crate::config::{LogFormat, LogRotation};
use calendar::Moment;
use journal::Journal;
use parking_lot::Mutex;
use rotation::RotatingFile;
use std::fmt::{Debug, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Target of events that end the process.
pub const FATAL: &str = "fatal";
/// Target of the line that a panic writes.
pub const PANIC: &str = "panic";

/// Levels of lines, the least serious first.
const LEVELS: [&str; 6] = ["debug", "info", "warn", "error", "panic", "fatal"];

/// Lines written so far, by level.
static LINES: [AtomicU64; LEVELS.len()] = [const { AtomicU64::new(0) }; LEVELS.len()];

/// Levels and how many lines of each were written.
pub(crate) fn line_counts() -> impl Iterator<Item = (&'static str, u64)> {
    LEVELS.into_iter().zip(&LINES).map(|(level, lines)| (level, lines.load(Relaxed)))
}

/// A moment as lines have it.
pub(crate) fn moment_text(moment: SystemTime) -> String {
    Moment::of(moment).for_line()
}

/// Starts the log for the whole process, and makes a panic one line and the end. Fails when an output cannot be opened.
/// `rotation` is for the outputs that are files.
pub fn start(level: &str, format: LogFormat, outputs: &[String], rotation: Option<LogRotation>) -> Result<(), String> {
    let outputs = outputs.iter().map(|output| Output::open(output, rotation)).collect::<Result<Vec<_>, _>>()?;
    let layer = LineLayer { level: level_filter(level), format, outputs };
    // A second start in one process (tests) keeps the first log.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    std::panic::set_hook(Box::new(|info| {
        let message = info
            .payload()
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| info.payload().downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic".to_owned());
        let place = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        tracing::error!(
            target: PANIC,
            place = place.as_str(),
            thread = std::thread::current().name().unwrap_or("unnamed"),
            "{message}"
        );
        std::process::abort();
    }));
    Ok(())
}

fn level_filter(level: &str) -> LevelFilter {
    match level {
        "debug" => LevelFilter::DEBUG,
        "warn" => LevelFilter::WARN,
        "error" | "panic" | "fatal" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

enum Output {
    Stderr,
    Stdout,
    Journal(Journal),
    File(Mutex<File>),
    Rotating(Mutex<RotatingFile>),
}

impl Output {
    fn open(name: &str, rotation: Option<LogRotation>) -> Result<Self, String> {
        let unopened = |error: std::io::Error| format!("couldn't open sink \"{name}\": open {name}: {error}");
        match (name, rotation) {
            ("default" | "stderr" | "/dev/stderr", _) => Ok(Self::Stderr),
            ("stdout" | "/dev/stdout", _) => Ok(Self::Stdout),
            ("systemd/journal", _) => Journal::open().map(Self::Journal),
            (path, None) => rotation::open(Path::new(path)).map(|file| Self::File(Mutex::new(file))).map_err(unopened),
            (path, Some(rotation)) => RotatingFile::open(PathBuf::from(path), rotation)
                .map(|file| Self::Rotating(Mutex::new(file)))
                .map_err(unopened),
        }
    }

    fn write(&self, line: &[u8], level: &str, now: SystemTime) {
        // A log that cannot be written is no reason to stop serving, and there is nowhere left to say so.
        let _ = match self {
            Self::Stderr => std::io::stderr().lock().write_all(line),
            Self::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(line).and_then(|()| stdout.flush())
            }
            Self::Journal(journal) => journal.write(line, level),
            Self::File(file) => file.lock().write_all(line),
            Self::Rotating(file) => file.lock().write(line, now),
        };
    }
}

struct LineLayer {
    level: LevelFilter,
    format: LogFormat,
    outputs: Vec<Output>,
}

impl LineLayer {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        *metadata.level() <= self.level && (target.starts_with("quorate") || target == FATAL || target == PANIC)
    }
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let now = SystemTime::now();
        let level = level_name(event.metadata());
        let line = render(event, level, self.format, &Moment::of(now).for_line());
        if let Some(at) = LEVELS.iter().position(|&known| known == level) {
            LINES[at].fetch_add(1, Relaxed);
        }
        for output in &self.outputs {
            output.write(line.as_bytes(), level, now);
        }
    }
}

fn level_name(metadata: &Metadata<'_>) -> &'static str {
    match (metadata.target(), *metadata.level()) {
        (FATAL, _) => "fatal",
        (PANIC, _) => "panic",
        (_, Level::ERROR) => "error",
        (_, Level::WARN) => "warn",
        (_, Level::INFO) => "info",
        _ => "debug",
    }
}

fn render(event: &Event<'_>, level: &str, format: LogFormat, time: &str) -> String {
    let metadata = event.metadata();
    let file = metadata.file().unwrap_or("unknown");
    let caller = format!("{}:{}", file.rsplit('/').next().unwrap_or(file), metadata.line().unwrap_or(0));
    let mut fields = Fields::default();
    event.record(&mut fields);
    let mut line = String::with_capacity(160 + fields.json.len());
    // Writing into a String cannot fail.
    let _ = match format {
        LogFormat::Json => write!(
            line,
            "{{\"level\":\"{level}\",\"ts\":\"{time}\",\"caller\":{},\"msg\":{}{}}}",
            json_text(&caller),
            json_text(&fields.message),
            fields.json
        ),
        LogFormat::Console if fields.json.is_empty() => write!(line, "{time}\t{level}\t{caller}\t{}", fields.message),
        LogFormat::Console => {
            write!(line, "{time}\t{level}\t{caller}\t{}\t{{{}}}", fields.message, &fields.json[1..])
        }
    };
    line.push('\n');
    line
}

/// Fields as `,"name":value` pieces, the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    json: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: &str) {
        let _ = write!(self.json, ",{}:{value}", json_text(field.name()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.add(field, &json_text(&format!("{value:?}")));
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.add(field, &json_text(value));
        }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.to_string());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.to_string());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, if value { "true" } else { "false" });
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, &if value.is_finite() { value.to_string() } else { json_text(&value.to_string()) });
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Capture(LogFormat, Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Capture {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            self.1.lock().push(render(event, level_name(event.metadata()), self.0, "T"));
        }
    }

    fn lines(format: LogFormat, emit: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Capture(format, lines.clone()));
        tracing::subscriber::with_default(subscriber, emit);
        std::mem::take(&mut *lines.lock())
    }

    #[test]
    fn a_line_is_one_json_object_whatever_is_in_it() {
        let text = "quote \" slash \\ newline \n and \u{1}";
        let lines = lines(LogFormat::Json, || {
            tracing::warn!("data-dir" = text, count = 3_u64, on = true, "said {text}");
            tracing::error!(target: FATAL, "the end");
        });
        assert!(lines.iter().all(|line| line.ends_with('\n') && line.matches('\n').count() == 1));
        let first: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
        assert_eq!(first["level"], "warn");
        assert_eq!(first["data-dir"], text);
        assert_eq!(first["count"], 3);
        assert_eq!(first["on"], true);
        assert_eq!(first["msg"], format!("said {text}"));
        assert!(first["caller"].as_str().expect("text").starts_with("logging.rs:"));
        let second: serde_json::Value = serde_json::from_str(&lines[1]).expect("JSON");
        assert_eq!(second["level"], "fatal");
    }

    #[test]
    fn the_console_form_is_one_tabbed_line() {
        let lines = lines(LogFormat::Console, || tracing::info!(port = 1_u64, "ready"));
        assert!(lines[0].starts_with("T\tinfo\tlogging.rs:"), "{}", lines[0]);
        assert!(lines[0].ends_with("\tready\t{\"port\":1}\n"), "{}", lines[0]);
    }
}
