//! What happened, in order: as one number that tells two runs apart, and as text when somebody wants to read it.

/// The record of a run.
pub struct Trace {
    digest: u64,
    events: u64,
    printing: bool,
}

impl Trace {
    /// An empty trace; a printing one writes each line to standard output.
    pub fn new(printing: bool) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, events: 0, printing }
    }

    /// Adds an event: its kind and the numbers that tell it from another.
    pub fn note(&mut self, now_us: u64, kind: &'static str, numbers: &[u64]) {
        self.events += 1;
        self.mix(now_us);
        for byte in kind.bytes() {
            self.mix(u64::from(byte));
        }
        for number in numbers {
            self.mix(*number);
        }
        if self.printing {
            use std::fmt::Write;
            let mut line = format!("{:>10.6} {kind}", now_us as f64 / 1e6);
            for number in numbers {
                // Infallible for a String.
                let _ = write!(line, " {number}");
            }
            println!("{line}");
        }
    }

    /// Adds bytes: a message, an answer.
    pub fn note_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    /// Adds a line for the reader; `text` is made only when somebody reads.
    pub fn say(&self, now_us: u64, text: impl FnOnce() -> String) {
        if self.printing {
            println!("{:>10.6}   {}", now_us as f64 / 1e6, text());
        }
    }

    fn mix(&mut self, word: u64) {
        self.digest = (self.digest.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// Equal for equal runs.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many events.
    pub fn events(&self) -> u64 {
        self.events
    }
}
