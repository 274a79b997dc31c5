//! `quorate bench` alone: `cargo run -p quorate-cli --example bench -- put`.

fn main() {
    std::process::exit(quorate_cli::bench::main(std::env::args().skip(1).collect()));
}
