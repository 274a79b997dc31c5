//! Holds a lock for readers and writers until Ctrl-C or its loss.

mod arguments;

use quorate_client::{Error, Session};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("rw_lock NAME read|write", 2);
    let namespace = arguments.connect().await?;
    let session = Session::open(&namespace, arguments.session()).await?;
    let lock = namespace.rw_lock(&arguments.rest[0])?;
    let held = match arguments.rest[1].as_str() {
        "read" => lock.read(&session).await?,
        _ => lock.write(&session).await?,
    };
    println!("held, token {}", held.token());
    // What the lock protects goes into `run`: it is dropped when the lock is lost.
    held.run(arguments.interrupted()).await?;
    held.release().await?;
    println!("released");
    session.close().await
}
