//! `top`: the cluster as it is, again and again.
//!
//! Owns the rhythm and the screen. What is asked is in `look`, how it is laid out in `page`. Invariant: nothing is changed,
//! and a member that does not answer delays no other's line by more than one interval.

mod look;
mod metrics;
mod page;

use std::io::IsTerminal;
use std::time::Duration;

use super::interrupt::Interrupt;
use crate::ctl::client::Client;
use crate::ctl::entry::Invocation;
use crate::ctl::failure::{self, Failure};
use crate::ctl::print::{Format, write_out};
use look::Look;

/// The shortest interval: each look is a few calls to each member.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Switches to the terminal's other screen and hides the cursor; and back.
const ENTER_SCREEN: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE_SCREEN: &str = "\x1b[?25h\x1b[?1049l";

/// Puts the terminal back in order, however the command ends.
struct Screen;

impl Screen {
    fn enter() -> Result<Self, Failure> {
        write_out(ENTER_SCREEN.as_bytes())?;
        Ok(Self)
    }

    /// Draws over what is there, so that nothing flickers.
    fn draw(text: &str) -> Result<(), Failure> {
        let lines: String = text.lines().map(|line| format!("{line}\x1b[K\r\n")).collect();
        write_out(format!("\x1b[H{lines}\x1b[J").as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no order.
        let _ = write_out(LEAVE_SCREEN.as_bytes());
    }
}

/// `top`
pub(crate) async fn top(mut run: Invocation) -> Result<(), Failure> {
    if !run.words().is_empty() {
        return Err(Failure::arguments("top command accepts no arguments"));
    }
    let (interval, once) = (run.values.duration("interval"), run.values.is_set("once"));
    if interval < INTERVAL_MIN {
        return Err(Failure::arguments(format!("--interval is {interval:?}, expected {INTERVAL_MIN:?} at least")));
    }
    let settings = run.settings()?;
    let as_json = match settings.format {
        Format::Simple => false,
        Format::Json => true,
        _ => return Err(Failure::new(failure::FEATURE, "top prints the forms simple and json only")),
    };
    let mut interrupt = Interrupt::listen()?;
    let mut client = Client::new(&settings).await?;
    let screen = (!as_json && !once && std::io::stdout().is_terminal()).then(Screen::enter).transpose()?;
    // Rates need two looks.
    let mut before = if once { Some(Look::take(&mut client, interval).await?) } else { None };
    loop {
        if before.is_some() {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = interrupt.wait() => return Ok(()),
            }
        }
        let look = tokio::select! {
            look = Look::take(&mut client, interval) => look?,
            () = interrupt.wait() => return Ok(()),
        };
        let text = if as_json { page::json(&look, before.as_ref()) } else { page::text(&look, before.as_ref()) };
        match screen {
            Some(_) => Screen::draw(&text)?,
            None => write_out(text.as_bytes())?,
        }
        if once {
            return Ok(());
        }
        before = Some(look);
    }
}
