//! Moves an amount from one key to another, as if nobody else were there.

mod arguments;

use quorate_client::{Error, Transaction};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = arguments::Arguments::read("transaction FROM TO AMOUNT", 3);
    let namespace = arguments.connect().await?;
    let [from, to] = [0, 1].map(|number| arguments.rest[number].as_str());
    let amount: i64 = arguments.rest[2].parse().map_err(|_| Error::InvalidSetting("AMOUNT is a number"))?;
    let (left, right) = namespace
        .transact(|transaction| async move {
            let left = number(&transaction, from).await? - amount;
            let right = number(&transaction, to).await? + amount;
            transaction.put(from, left.to_string())?;
            transaction.put(to, right.to_string())?;
            Ok((left, right))
        })
        .await?;
    println!("{from}={left} {to}={right}");
    Ok(())
}

async fn number(transaction: &Transaction, path: &str) -> Result<i64, Error> {
    let Some(stored) = transaction.get(path).await? else { return Ok(0) };
    let text = String::from_utf8_lossy(&stored).into_owned();
    text.parse().map_err(|_| Error::InvalidValue { key: path.to_owned(), reason: format!("{text:?} is no number") })
}
