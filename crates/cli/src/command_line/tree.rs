//! The tree of a tool's commands.
//!
//! Not here: reading words against it (`select`) and writing it out (`usage`). The invariant: names are unique among
//! the children of one command, and only commands without children do something.

use super::flag::{Flag, Hint};

/// A command, with what it needs to be found, explained and run. `Action` is what the tool runs for it.
pub(crate) struct Command<Action: 'static> {
    /// The words of the usage line, of which the first is the name.
    pub(crate) usage: &'static str,
    pub(crate) aliases: &'static [&'static str],
    /// The line of the parent's list of commands.
    pub(crate) short: &'static str,
    /// What help says at its start where the short line is not enough.
    pub(crate) long: &'static str,
    pub(crate) examples: &'static str,
    /// An example for help under this program's own name; lines, in which `PROGRAM` stands for the command path.
    pub(crate) lesson: &'static str,
    /// Whether the usage line is complete without a mention of flags.
    pub(crate) usage_names_all: bool,
    /// The heading in the parent's list of commands; empty where the parent has one list only.
    pub(crate) group: &'static str,
    pub(crate) flags: &'static [Flag],
    /// What a shell may offer for its words.
    pub(crate) words: Hint,
    /// Flags that the command's children take too, and whether help shows them.
    pub(crate) inherited: &'static [Flag],
    pub(crate) shows_inherited: bool,
    pub(crate) children: &'static [Self],
    /// None for a command that only groups others.
    pub(crate) action: Option<Action>,
}

impl<Action> Command<Action> {
    /// A command that groups others.
    pub(crate) const fn parent(usage: &'static str, short: &'static str, children: &'static [Self]) -> Self {
        Self {
            usage,
            aliases: &[],
            short,
            long: "",
            examples: "",
            lesson: "",
            usage_names_all: false,
            group: "",
            flags: &[],
            words: Hint::Anything,
            inherited: &[],
            shows_inherited: true,
            children,
            action: None,
        }
    }

    /// A command that does something.
    pub(crate) const fn leaf(usage: &'static str, short: &'static str, action: Action) -> Self {
        // Written out because a destructor for `Action` cannot run in a constant.
        Self {
            usage,
            aliases: &[],
            short,
            long: "",
            examples: "",
            lesson: "",
            usage_names_all: false,
            group: "",
            flags: &[],
            words: Hint::Anything,
            inherited: &[],
            shows_inherited: true,
            children: &[],
            action: Some(action),
        }
    }

    /// The word it is called by.
    pub(crate) fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or_default()
    }
}
