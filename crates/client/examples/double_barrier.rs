//! Enters with so many others, and leaves with them at Ctrl-C.

mod arguments;

use quorate_client::{Error, Session};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("double_barrier NAME COUNT", 2);
    let namespace = arguments.connect().await?;
    let count = arguments.rest[1].parse().map_err(|_| Error::InvalidSetting("COUNT is a number"))?;
    let session = Session::open(&namespace, arguments.session()).await?;
    let entered = namespace.double_barrier(&arguments.rest[0], count)?.enter(&session).await?;
    println!("entered");
    arguments.interrupted().await;
    entered.leave().await?;
    println!("left");
    session.close().await
}
