//! Holds one permit of a semaphore until Ctrl-C or its loss.

mod arguments;

use quorate_client::{Error, Session};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("semaphore NAME LIMIT", 2);
    let namespace = arguments.connect().await?;
    let limit = arguments.rest[1].parse().map_err(|_| Error::InvalidSetting("LIMIT is a number"))?;
    let session = Session::open(&namespace, arguments.session()).await?;
    let permit = namespace.semaphore(&arguments.rest[0], limit).await?.acquire(&session).await?;
    println!("held, token {}", permit.token());
    permit.run(arguments.interrupted()).await?;
    permit.release().await?;
    println!("released");
    session.close().await
}
