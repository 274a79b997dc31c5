//! Closes a barrier, opens it, or waits until it is open.

mod arguments;

use quorate_client::Error;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("barrier NAME close|open|wait", 2);
    let namespace = arguments.connect().await?;
    let barrier = namespace.barrier(&arguments.rest[0])?;
    match arguments.rest[1].as_str() {
        "close" => barrier.close().await?,
        "open" => barrier.open().await?,
        _ => barrier.wait().await?,
    }
    println!("{}: done", arguments.rest[1]);
    Ok(())
}
