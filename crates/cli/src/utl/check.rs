//! `check`: whether a data folder is sound.

use super::failure::Failure;
use super::output::Form;
use super::place::{path, place};
use crate::command_line::flag::Values;
use quorate_folder::check::{Report, check as check_folder};
use quorate_folder::layout::Place;
use serde_json::json;

pub(super) fn check(values: &Values) -> Result<(), Failure> {
    let mut folder = place(values, "default.etcd");
    match &values.words[..] {
        [] => {}
        [word] if !values.is_given("data-dir") => folder = Place { data: path(word), ..folder },
        _ => return Err(Failure::arguments("check takes one data folder")),
    }
    let form = Form::read(values.text("write-out"))?;
    let report = check_folder(&folder)?;
    match form {
        Form::Json => println!("{}", json_text(&report)),
        Form::Simple => print!("{}", simple_text(&report, &folder.data.display().to_string())),
        _ => return Err(Failure::feature("check writes simple or json")),
    }
    if report.findings.is_empty() { Ok(()) } else { Err(Failure::shown()) }
}

fn simple_text(report: &Report, folder: &str) -> String {
    let mut text = format!(
        "{folder}: member {:x} of cluster {:x}, revision {} at entry {}, log up to entry {}\n",
        report.member_id, report.cluster_id, report.revision, report.applied_index, report.last_index
    );
    for finding in &report.findings {
        let place = finding.offset.map_or_else(String::new, |offset| format!(" at offset {offset}"));
        text.push_str(&format!(
            "DAMAGED {}{place}: {}\n  What to do: {}\n",
            finding.file, finding.what, finding.advice
        ));
    }
    if report.findings.is_empty() {
        text.push_str(&format!(
            "sound: {} segments, {} bytes, {} records, and the log\n",
            report.segments, report.bytes, report.records
        ));
    }
    text
}

fn json_text(report: &Report) -> String {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "file": finding.file, "offset": finding.offset, "what": finding.what, "advice": finding.advice,
            })
        })
        .collect();
    json!({
        "sound": report.findings.is_empty(),
        "memberID": report.member_id,
        "clusterID": report.cluster_id,
        "revision": report.revision,
        "compactRevision": report.compact_revision,
        "appliedIndex": report.applied_index,
        "commitIndex": report.commit_index,
        "lastIndex": report.last_index,
        "segments": report.segments,
        "bytes": report.bytes,
        "records": report.records,
        "findings": findings,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_folder::check::Finding;

    #[test]
    fn findings_say_where_what_and_what_to_do() {
        let finding = Finding {
            file: "store/00000001/CHECKPOINT".to_owned(),
            offset: Some(16),
            what: "checksum 1, expected 2".to_owned(),
            advice: "restore".to_owned(),
        };
        let report = Report { findings: vec![finding], ..Report::default() };
        let text = simple_text(&report, "d");
        assert!(
            text.contains(
                "DAMAGED store/00000001/CHECKPOINT at offset 16: checksum 1, expected 2\n  What to do: restore"
            )
        );
        assert!(!text.contains("sound"));
        let json: serde_json::Value = serde_json::from_str(&json_text(&report)).expect("valid");
        assert_eq!((&json["sound"], &json["findings"][0]["offset"]), (&json!(false), &json!(16)));
        assert!(simple_text(&Report::default(), "d").contains("sound: 0 segments"));
    }
}
