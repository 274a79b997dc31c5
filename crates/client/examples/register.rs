//! Registers an instance of a service until Ctrl-C.

mod arguments;

use quorate_client::{Error, Instance, Standing};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("register SERVICE INSTANCE ADDRESS", 3);
    let namespace = arguments.connect().await?;
    let [service, name, address] = [0, 1, 2].map(|number| arguments.rest[number].as_str());
    let instance = Instance::at(address);
    let mut registration = namespace.register(service, name, &instance, arguments.session()).await?;
    println!("registered as {}", registration.presence().key());
    loop {
        tokio::select! {
            standing = registration.presence_mut().changed() => match standing? {
                Standing::Present { .. } => println!("registered again"),
                Standing::Absent => println!("lost, coming back"),
                Standing::Taken { by_lease } => println!("taken by lease {by_lease:x}, waiting"),
            },
            () = arguments.interrupted() => break,
        }
    }
    registration.deregister().await;
    println!("deregistered");
    Ok(())
}
