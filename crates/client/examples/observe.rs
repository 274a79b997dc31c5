//! Prints the changes of all keys under a path until Ctrl-C: from a revision, or the state first.

mod arguments;

use quorate_client::{Change, Error, Start};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("observe PATH [REVISION]", 1);
    let namespace = arguments.connect().await?;
    let start = match arguments.rest.get(1) {
        Some(revision) => Start::Revision(revision.parse().map_err(|_| Error::InvalidSetting("REVISION is a number"))?),
        None => Start::State,
    };
    let mut observer = namespace.observe_under(&arguments.rest[0], start).await?;
    println!("observing after revision {}", observer.start_revision());
    loop {
        tokio::select! {
            change = observer.next() => match change.unwrap_or(Err(Error::Stopped))? {
                Change::Put(entry) => println!("{} {}={}", entry.mod_revision, entry.path_text(), entry.value_text()),
                Change::Delete { path, revision } => println!("{revision} -{}", String::from_utf8_lossy(&path)),
                Change::Compacted { after, until } => println!("lost {after} to {until}; the difference:"),
            },
            () = arguments.interrupted() => return Ok(()),
        }
    }
}
