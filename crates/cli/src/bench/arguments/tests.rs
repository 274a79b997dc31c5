//! Checks of the options: what is taken and what is refused.

use super::*;

fn request(line: &str) -> Result<Request, String> {
    let arguments: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
    parse(&arguments).map_err(|error| error.to_string())
}

fn load(line: &str) -> (Work, Load, Vec<String>) {
    match request(line).unwrap().action {
        Action::Measure { work, load, endpoints } => (work, load, endpoints),
        Action::Compare(_) => panic!("{line} is a single run"),
    }
}

fn plan(line: &str) -> Plan {
    match request(line).unwrap().action {
        Action::Compare(plan) => plan,
        Action::Measure { .. } => panic!("{line} is a comparison"),
    }
}

#[track_caller]
fn check_refused(line: &str, reason: &str) {
    let error = request(line).expect_err(line);
    assert!(error.contains(reason), "{line}: {error}");
}

#[test]
fn the_command_line_is_well_formed() {
    CommandLine::command().debug_assert();
}

#[test]
fn defaults() {
    let (work, load, endpoints) = load("put --threads 1");
    assert_eq!(work, Work::Put);
    assert_eq!(endpoints, ["http://127.0.0.1:2379"]);
    assert_eq!((load.clients, load.connections, load.limit, load.pace), (64, 8, Limit::Calls(10_000), Pace::Unpaced));
    assert_eq!((load.preparation, load.threads), (Preparation::None, 1));
    assert_eq!((load.shape.key_size, load.shape.value_size, load.shape.key_space), (16, 256, 10_000));
}

#[test]
fn connections_follow_from_those_who_use_them() {
    assert_eq!(load("put --clients 3").1.connections, 3);
    assert_eq!(load("put --clients 300").1.connections, 8);
    assert_eq!(load("watch --watchers 5").1.connections, 5);
    assert_eq!((load("watch-latency").1.clients, load("watch-latency").1.connections), (1, 1));
    check_refused("put --clients 3 --connections 4", "only 3 clients");
    check_refused("watch --watchers 3 --clients 9 --connections 4", "only 3 watchers");
}

#[test]
fn each_work_has_its_options() {
    let range = |consistency, extent, answer| Work::Range { consistency, extent, answer };
    assert_eq!(load("range").0, range(Consistency::Linearizable, Extent::Key, Answer::Pairs));
    assert_eq!(
        load("range --consistency s --prefix --limit 500 --count-only").0,
        range(Consistency::Serializable, Extent::Prefix { limit: 500 }, Answer::Count)
    );
    assert_eq!(load("lease --ttl 5").0, Work::Lease { ttl_s: 5 });
    assert_eq!(
        load("mixed --reads 9 --writes 2").0,
        Work::Mixed { reads: 9, writes: 2, consistency: Consistency::Linearizable }
    );
    check_refused("range --limit 5", "--prefix");
    check_refused("range --consistency x", "[possible values: l, s]");
    check_refused("mixed --reads 0 --writes 0", "must not both be 0");
}

#[test]
fn the_end_and_the_pace() {
    assert_eq!(load("put --total 5").1.limit, Limit::Calls(5));
    assert_eq!(load("put --duration 1.5s").1.limit, Limit::Time(Duration::from_millis(1500)));
    assert_eq!(load("put --rate 0.5").1.pace, Pace::PerSecond(0.5));
    check_refused("put --total 5 --duration 1s", "cannot be used with");
    check_refused("put --total 0", "0 is not in");
    check_refused("put --duration 5", "write a number and a unit");
    check_refused("put --duration 0s", "must be from 1ms");
    for rate in ["-1", "nan", "inf", "1e-9", "1e9"] {
        check_refused(&format!("put --rate={rate}"), "must be 0 or from 0.001");
    }
}

#[test]
fn durations() {
    for (text, ms) in [("5ms", 5), ("2s", 2_000), ("1.5m", 90_000), ("1h", 3_600_000)] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in ["", "s", "5", "5d", "1m30s", "-5s", "1.2.3s", "99999999999h", "0.1ms"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn keys_must_hold_their_number_and_values_their_stamp() {
    assert_eq!(load("put --key-size 8 --key-space 100").1.shape.key_size, 8);
    check_refused("put --key-size 8 --key-space 101", "too small for the prefix");
    check_refused("put --key-prefix=", "must not be empty");
    check_refused("watch --value-size 15", "at least 16");
    check_refused("watch-latency --value-size 8", "at least 16");
    check_refused("watch-latency --clients 11 --key-space 10", "need as many keys");
    assert_eq!(load("put --value-size 0").1.shape.value_size, 0);
}

#[test]
fn endpoints_are_addresses_without_tls() {
    let (.., endpoints) = load("put --endpoints a:1,http://b:2/,[::1]:3");
    assert_eq!(endpoints, ["http://a:1", "http://b:2", "http://[::1]:3"]);
    check_refused("put --endpoints ftp://a:1", "is no endpoint");
    check_refused("put --cert c.pem", "--key");
    check_refused("put --user root", "NAME:PASSWORD");
    for endpoint in ["a", ":2379", "a:b", "a:70000", "http://a:1/x"] {
        check_refused(&format!("put --endpoints {endpoint}"), "is no endpoint");
    }
}

#[test]
fn two_running_servers() {
    let plan = plan("compare --a x:1,x:2 --b y:1 --name-b other --rounds 5 range --total 7");
    let endpoints = Pair { a: vec!["http://x:1".into(), "http://x:2".into()], b: vec!["http://y:1".into()] };
    assert_eq!(plan.sides, Sides::Running(endpoints));
    assert_eq!((plan.rounds, plan.load.limit, &*plan.names.b), (5, Limit::Calls(7), "other"));
    assert_eq!(plan.load.preparation, Preparation::None, "nobody asked to write to servers in use");
    check_refused("compare --a x:1 --b y:1 --members 3 put", "go with --binary-a");
    check_refused("compare --a x:1 --b y:1 put --endpoints z:1", "not from --endpoints");
}

#[test]
fn two_programs() {
    let this = std::env::current_exe().unwrap();
    let programs = format!("--binary-a {0} --binary-b {0}", this.display());
    let plan_of = |options: &str| plan(&format!("compare {programs} {options}"));
    let plan = plan_of("--members 3 --server-argument --quota-backend-bytes=5 range");
    let Sides::Started(clusters) = plan.sides else { panic!("programs are started") };
    assert_eq!((clusters.members, clusters.keep), (3, false));
    assert_eq!(clusters.server_arguments, ["--quota-backend-bytes=5"]);
    assert_eq!(plan.load.preparation, Preparation::Fill, "a fresh server has nothing to read");
    assert_eq!(plan_of("put").load.preparation, Preparation::None);
    check_refused(&format!("compare {programs} --members 2 put"), "1 or 3 members");
    check_refused("compare --binary-a /nowhere --binary-b /nowhere put", "/nowhere is not a file");
}

#[test]
fn sides_come_in_pairs() {
    for sides in ["", "--a x:1", "--binary-a /x", "--a x:1 --binary-b /x", "--a x:1 --b x:1 --binary-a /x"] {
        check_refused(&format!("compare {sides} put"), "give either");
    }
    check_refused("compare --a x:1 --b y:1", "WORK");
}

#[test]
fn formats_work_before_and_after_the_work() {
    assert_eq!(request("-w json put").unwrap().format, Format::Json);
    assert_eq!(request("put -w json").unwrap().format, Format::Json);
    assert_eq!(request("compare --a x:1 --b y:1 put -w markdown").unwrap().format, Format::Markdown);
    assert_eq!(request("compare --a x:1 --b y:1 -w markdown put").unwrap().format, Format::Markdown);
    assert!(!request("put --no-progress").unwrap().progress_wanted);
    check_refused("put -w markdown", "is for compare");
}

#[test]
fn the_help_shows_examples_that_parse() {
    let help = request("--help").expect_err("help ends the parse");
    let mut examples = 0;
    for line in help.lines().filter_map(|line| line.trim().strip_prefix("quorate bench ")) {
        examples += 1;
        match request(line) {
            Ok(_) => (),
            // The programs of the example do not exist here; its options were understood.
            Err(error) => assert!(error.contains("is not a file"), "{line}: {error}"),
        }
    }
    assert!(examples >= 6, "{help}");
}

#[test]
fn exit_codes_of_usage() {
    let code = |line: &str| parse(&[line.to_owned()]).expect_err(line).exit_code();
    assert_eq!((code("--help"), code("nonsense"), code("--nonsense")), (0, 2, 2));
}
