//! Leads and publishes a configuration; without a value, prints it and each change.

mod arguments;

use quorate_client::{Change, Error, Session};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("leader_config ELECTION PATH [VALUE]", 2);
    let namespace = arguments.connect().await?;
    let config = namespace.leader_config(&arguments.rest[0], &arguments.rest[1])?;
    if let Some(value) = arguments.rest.get(2) {
        let session = Session::open(&namespace, arguments.session()).await?;
        let leadership = namespace.election(&arguments.rest[0])?.campaign(&session, "publisher").await?;
        println!("published at revision {}", config.publish(&leadership, value.as_str()).await?);
        leadership.resign().await?;
        return session.close().await;
    }
    let mut observer = config.observe().await?;
    loop {
        tokio::select! {
            change = observer.next() => {
                if let Change::Put(entry) = change.unwrap_or(Err(Error::Stopped))? {
                    println!("{}", entry.value_text());
                }
            }
            () = arguments.interrupted() => return Ok(()),
        }
    }
}
