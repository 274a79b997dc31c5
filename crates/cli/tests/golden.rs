//! The parts of the golden runner that need no server. The cases themselves run by `examples/golden.rs` and by the
//! tests of the `quorate` binary.

#[path = "golden/runner.rs"]
#[expect(dead_code, reason = "running the cases takes a server")]
mod runner;
