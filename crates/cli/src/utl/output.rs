//! The forms of answers: simple, fields, json, protobuf, table.
//!
//! Not here: what is answered. The invariant: every form is etcdutl's, byte for byte.

use super::failure::Failure;
use crate::command_line::go_text::size_text;
use crate::ctl::print::table::draw;
use quorate_backend::hash::FileHash;
use quorate_backend::status::Status;
use serde_json::Value;

/// What `--write-out` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

impl Form {
    /// Reads the flag.
    pub(super) fn read(text: &str) -> Result<Self, Failure> {
        match text {
            "simple" => Ok(Self::Simple),
            "fields" => Ok(Self::Fields),
            "json" => Ok(Self::Json),
            "protobuf" => Ok(Self::Protobuf),
            "table" => Ok(Self::Table),
            _ => Err(Failure::feature("unsupported output format")),
        }
    }
}

/// An answer in all its forms.
struct Answer<'a> {
    /// Names in the simple form's order, for tables.
    heading: &'a [&'a str],
    cells: Vec<String>,
    fields: Vec<(&'a str, String)>,
    json: Vec<(&'a str, Value)>,
}

impl Answer<'_> {
    fn render(&self, form: Form) -> Result<String, Failure> {
        Ok(match form {
            Form::Simple => format!("{}\n", self.cells.join(", ")),
            Form::Fields => self.fields.iter().map(|(name, value)| format!("\"{name}\" : {value}\n")).collect(),
            Form::Json => {
                let pairs: Vec<String> =
                    self.json.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
                format!("{{{}}}\n", pairs.join(","))
            }
            Form::Protobuf => return Err(Failure::feature("protobuf not supported as output format")),
            Form::Table => draw(self.heading, std::slice::from_ref(&self.cells)),
        })
    }
}

/// A file's figures.
pub(super) fn status(status: &Status, form: Form) -> Result<String, Failure> {
    let Status { hash, revision, total_keys, total_bytes, version } = status;
    Answer {
        heading: &["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"],
        cells: vec![
            format!("{hash:x}"),
            revision.to_string(),
            total_keys.to_string(),
            size_text(*total_bytes),
            version.clone(),
        ],
        fields: vec![
            ("Hash", hash.to_string()),
            ("Revision", revision.to_string()),
            ("Keys", total_keys.to_string()),
            ("Size", total_bytes.to_string()),
            ("Version", version.clone()),
        ],
        json: vec![
            ("hash", (*hash).into()),
            ("revision", (*revision).into()),
            ("totalKey", (*total_keys).into()),
            ("totalSize", (*total_bytes).into()),
            ("version", version.clone().into()),
        ],
    }
    .render(form)
}

/// A file's HashKV.
pub(super) fn hash(hash: FileHash, form: Form) -> Result<String, Failure> {
    let FileHash { hash, hash_revision, compact_revision } = hash;
    let texts = [hash.to_string(), hash_revision.to_string(), compact_revision.to_string()];
    let names = ["Hash", "Hash revision", "Compact revision"];
    Answer {
        heading: &["HASH", "HASH REVISION", "COMPACT REVISION"],
        cells: texts.to_vec(),
        fields: std::iter::zip(names, texts.clone()).collect(),
        json: vec![
            ("hash", hash.into()),
            ("hashRevision", hash_revision.into()),
            ("compactRevision", compact_revision.into()),
        ],
    }
    .render(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_status_is_etcdutls() {
        let sample = Status {
            hash: 3_117_792_129,
            revision: 7,
            total_keys: 1,
            total_bytes: 20_480,
            version: "3.7.0".to_owned(),
        };
        let check = |form: &str, expected: &str| {
            let form = Form::read(form).expect("known");
            assert_eq!(status(&sample, form).as_deref().unwrap_or_else(|failure| &failure.message), expected);
        };
        check("simple", "b9d5bb81, 7, 1, 20 kB, 3.7.0\n");
        check(
            "json",
            "{\"hash\":3117792129,\"revision\":7,\"totalKey\":1,\"totalSize\":20480,\"version\":\"3.7.0\"}\n",
        );
        check(
            "fields",
            "\"Hash\" : 3117792129\n\"Revision\" : 7\n\"Keys\" : 1\n\"Size\" : 20480\n\"Version\" : 3.7.0\n",
        );
        check("protobuf", "protobuf not supported as output format");
        check(
            "table",
            "┌──────────┬──────────┬────────────┬────────────┬─────────┐\n\
             │   HASH   │ REVISION │ TOTAL KEYS │ TOTAL SIZE │ VERSION │\n\
             ├──────────┼──────────┼────────────┼────────────┼─────────┤\n\
             │ b9d5bb81 │        7 │          1 │      20 kB │   3.7.0 │\n\
             └──────────┴──────────┴────────────┴────────────┴─────────┘\n",
        );
        assert_eq!(Form::read("bogus"), Err(Failure::feature("unsupported output format")));
    }
}
