//! Generates the messages and the client stubs without a system `protoc`.

const FILES: [&str; 6] = ["mvcc.proto", "auth.proto", "rpc.proto", "lock.proto", "election.proto", "internal.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let mut prost = prost_build::Config::new();
    prost.bytes(["."]);
    tonic_prost_build::configure()
        .build_server(false)
        .build_client(true)
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .compile_fds_with_config(descriptors, prost)?;
    Ok(())
}
