//! Keeps the keys under one path equal to those under another until Ctrl-C.

mod arguments;

use quorate_client::{Error, MirrorOptions};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("mirror FROM TO", 2);
    let namespace = arguments.connect().await?;
    let (from, to) = (&arguments.rest[0], &arguments.rest[1]);
    let mirror = namespace.mirror(from, &namespace, to, MirrorOptions::Exact)?;
    mirror.reached(1).await?;
    println!("equal at revision {}", mirror.progress().revision);
    tokio::select! {
        ended = mirror.reached(i64::MAX) => ended,
        () = arguments.interrupted() => Ok(()),
    }
}
