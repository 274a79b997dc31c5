//! Campaigns in an election until Ctrl-C, and says what it is.

mod arguments;

use quorate_client::{Error, Status};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("election NAME VALUE", 2);
    let namespace = arguments.connect().await?;
    let election = namespace.election(&arguments.rest[0])?;
    let mut candidate = election.run(arguments.rest[1].as_str(), arguments.session())?;
    println!("follower");
    loop {
        tokio::select! {
            status = candidate.changed() => match status? {
                Status::Leader(leadership) => println!("leader, token {}", leadership.token()),
                Status::Follower => println!("follower"),
            },
            () = arguments.interrupted() => break,
        }
    }
    candidate.stop().await;
    println!("stopped");
    Ok(())
}
