//! Takes a lock and counts in `NAME-data` as long as it holds it, each write fenced; ends with exit code 1 when it is lost.

mod arguments;

use std::process::ExitCode;
use std::time::Duration;

use quorate_client::{Error, Session};

#[tokio::main]
async fn main() -> Result<ExitCode, Error> {
    let arguments = arguments::Arguments::read("lock NAME", 1);
    let name = &arguments.rest[0];
    let namespace = arguments.connect().await?;
    let session = Session::open(&namespace, arguments.session()).await?;
    let held = namespace.mutex(name)?.lock(&session).await?;
    println!("held, token {}", held.token());
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    for count in 0u64.. {
        interval.tick().await;
        if let Err(error) = held.put(&format!("{name}-data"), count.to_string()).await {
            println!("lost: {error}");
            break;
        }
    }
    Ok(ExitCode::FAILURE)
}
