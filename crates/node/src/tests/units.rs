//! What a script cannot show.

use super::cluster::{Cluster, put};
use crate::api::Input;

/// The same seed and inputs give the same effects, to the letter.
#[test]
fn a_run_repeats_itself() {
    let run = || {
        let mut cluster = Cluster::new(&[1, 2, 3], &[], |_| {});
        for round in 0..60 {
            cluster.tick_all();
            if let Some(leader) = cluster.leader() {
                cluster.input(leader, Input::Propose(vec![put(round + 1, 10)]));
                if round == 30 {
                    cluster.crash(leader);
                }
            }
        }
        cluster.notes
    };
    assert_eq!(run(), run());
}
