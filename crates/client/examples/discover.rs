//! Prints the instances of a service, and each change of them, until Ctrl-C.

mod arguments;

use quorate_client::{Error, Instances};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("discover SERVICE", 1);
    let namespace = arguments.connect().await?;
    let mut discovery = namespace.discover(&arguments.rest[0]).await?;
    print(&discovery.instances());
    loop {
        tokio::select! {
            instances = discovery.changed() => {
                print(&instances);
                if let Some(error) = instances.failure {
                    return Err(error);
                }
            }
            () = arguments.interrupted() => return Ok(()),
        }
    }
}

fn print(instances: &Instances) {
    let all: Vec<String> = instances.by_name.iter().map(|(name, one)| format!("{name}={}", one.address)).collect();
    println!("[{}]{}", all.join(" "), if instances.is_connected { "" } else { " (old)" });
}
