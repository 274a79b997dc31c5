//! Pushes a job, or does all that come until Ctrl-C.

mod arguments;

use quorate_client::{Error, Session};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("queue NAME push VALUE [PRIORITY] | queue NAME take", 2);
    let namespace = arguments.connect().await?;
    let queue = namespace.queue(&arguments.rest[0])?;
    if let Some(value) = arguments.rest.get(2) {
        let priority = arguments.rest.get(3).map_or(Ok(0), |priority| priority.parse());
        let priority = priority.map_err(|_| Error::InvalidSetting("PRIORITY is a number up to 65535"))?;
        println!("pushed at revision {}", queue.push_with_priority(priority, value.as_str()).await?);
        return Ok(());
    }
    let session = Session::open(&namespace, arguments.session()).await?;
    loop {
        tokio::select! {
            job = queue.take(&session) => {
                let job = job?;
                println!("did {}", String::from_utf8_lossy(job.value()));
                job.done().await?;
            }
            () = arguments.interrupted() => return session.close().await,
        }
    }
}
