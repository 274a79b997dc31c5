//! Keeps a key present until Ctrl-C, also after losses.

mod arguments;

use quorate_client::Error;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("ephemeral PATH VALUE", 2);
    let namespace = arguments.connect().await?;
    let presence = namespace.presence(&arguments.rest[0], arguments.rest[1].as_str(), arguments.session())?;
    println!("present at revision {}", presence.present().await?);
    arguments.interrupted().await;
    presence.stop().await;
    println!("gone");
    Ok(())
}
