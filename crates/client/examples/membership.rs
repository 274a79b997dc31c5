//! Joins a group until Ctrl-C, and prints who is in it.

mod arguments;

use quorate_client::{Error, Members};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("membership GROUP NAME VALUE", 3);
    let namespace = arguments.connect().await?;
    let [group, name, value] = [0, 1, 2].map(|number| arguments.rest[number].as_str());
    let mut membership = namespace.join(group, name, value, arguments.session()).await?;
    print(&membership.members());
    loop {
        tokio::select! {
            members = membership.changed() => {
                print(&members);
                if let Some(error) = members.failure {
                    return Err(error);
                }
            }
            () = arguments.interrupted() => break,
        }
    }
    membership.leave().await;
    println!("left");
    Ok(())
}

fn print(members: &Members) {
    let text = |(name, value): (&String, &Vec<u8>)| format!("{name}={}", String::from_utf8_lossy(value));
    let all: Vec<String> = members.by_name.iter().map(text).collect();
    println!("[{}]{}", all.join(" "), if members.is_connected { "" } else { " (old)" });
}
