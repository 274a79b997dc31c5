//! Asks a cluster how it is: once, or every so many seconds until Ctrl-C.

mod arguments;

use std::time::Duration;

use quorate_client::{ClusterHealth, Error, HealthMonitor, connect_options};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("health [SECONDS]", 0);
    arguments.listen().await;
    let monitor = HealthMonitor::new(arguments.endpoints(), connect_options())?;
    let Some(seconds) = arguments.rest.first() else {
        print(&monitor.check().await);
        return Ok(());
    };
    let seconds = seconds.parse().map_err(|_| Error::InvalidSetting("SECONDS is a number"))?;
    let mut answers = monitor.every(Duration::from_secs(seconds));
    loop {
        tokio::select! {
            health = answers.next() => print(&health?),
            () = arguments.interrupted() => return Ok(()),
        }
    }
}

fn print(health: &ClusterHealth) {
    println!("{:?}", health.state);
    for (endpoint, one) in &health.endpoints {
        let word = if one.is_serving { "serves" } else { "does not serve" };
        println!("  {endpoint} {word}, {} {}", one.version, one.complaints.join("; "));
    }
}
