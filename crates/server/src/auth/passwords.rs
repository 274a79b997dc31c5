//! Hashing and checking passwords: slow on purpose, so on threads of its own.
//!
//! Owns the threads and the queue before them. Full means refuse. The threads yield to everything else on the machine, so
//! that a flood of log-ins starves neither the consensus nor the calls.

use crate::auth::checks::{Checks, Joined};
use crate::auth::logins::Logins;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;
use tokio::sync::oneshot;

/// Passwords that wait to be hashed or checked at the most; more are refused.
const WAITING_MAX: usize = 1_024;

/// Threads at the most.
const THREADS_MAX: usize = 4;

/// How much the threads yield (nice).
const NICENESS: i32 = 10;

/// The costs that bcrypt allows.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// What `--bcrypt-cost` becomes when it is none of them.
const COST_DEFAULT: u32 = 10;

/// The longest password that can be set, bytes; bcrypt looks at no more.
const PASSWORD_BYTES_MAX: usize = 72;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordError {
    /// More than bcrypt looks at.
    #[error("bcrypt: password length exceeds 72 bytes")]
    TooLong,
    /// Too many wait already.
    #[error("etcdserver: too many requests")]
    Full,
    /// The random source or a thread failed.
    #[error("quorate: a password could not be hashed")]
    Failed,
}

type Work = Box<dyn FnOnce() + Send>;

/// The password service.
#[derive(Debug)]
pub(crate) struct Passwords {
    cost: u32,
    queue: SyncSender<Work>,
    logins: Arc<Mutex<Logins>>,
    checks: Checks,
}

/// A hash of nothing that anybody knows, of a cost: what the password of an unknown user is compared with, so that the
/// time of the answer does not tell who exists.
fn decoy(cost: u32) -> String {
    format!("$2a${cost:02}$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01342")
}

impl Passwords {
    /// Starts the threads.
    pub(crate) fn start(cost: u64) -> io::Result<Self> {
        let cost = u32::try_from(cost).ok().filter(|cost| COSTS.contains(cost)).unwrap_or_else(|| {
            tracing::warn!(
                "given-cost" = cost,
                "default-cost" = COST_DEFAULT,
                "use default bcrypt cost instead of the invalid given cost"
            );
            COST_DEFAULT
        });
        let (queue, work) = sync_channel::<Work>(WAITING_MAX);
        let work = Arc::new(Mutex::new(work));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for number in 0..(processors / 2).clamp(1, THREADS_MAX) {
            let work = work.clone();
            std::thread::Builder::new().name(format!("passwords-{number}")).spawn(move || run(&work))?;
        }
        let logins = Arc::new(Mutex::new(Logins::new(rand::random())));
        Ok(Self { cost, queue, logins, checks: Checks::default() })
    }

    /// Hashes a password, as etcd would.
    pub(crate) async fn hash(&self, password: String) -> Result<String, PasswordError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        let cost = self.cost;
        self.ask(move || {
            let hashed = bcrypt::hash_with_result(wiped(password).as_bytes(), cost);
            hashed.map(|parts| parts.format_for_version(bcrypt::Version::TwoA)).map_err(|_| PasswordError::Failed)
        })
        .await?
    }

    /// Whether a password is the one of a bcrypt hash. Without a hash (nobody of that name) the answer is no, and takes
    /// as long. Who asks the same while it is checked waits for that check.
    pub(crate) async fn verify(
        &self,
        name: &str,
        hash: Option<&[u8]>,
        password: String,
    ) -> Result<bool, PasswordError> {
        let password = wiped(password);
        let question = {
            let mut logins = self.logins.lock();
            if let Some(hash) = hash
                && logins.knows(name, hash, password.as_bytes(), Instant::now())
            {
                return Ok(true);
            }
            logins.question(name, hash, password.as_bytes())
        };
        let (answer, answered) = oneshot::channel();
        let mut check = match self.checks.join(question, answer) {
            Joined::Leads(check) => check,
            Joined::Follows => return answered.await.map_err(|_| PasswordError::Full),
            Joined::Full => return Err(PasswordError::Full),
        };
        let name = name.to_owned();
        let hash = hash.map(<[u8]>::to_vec);
        let decoy = decoy(self.cost);
        let logins = self.logins.clone();
        self.hand_on(Box::new(move || {
            if !check.is_wanted() {
                return;
            }
            let text = hash.as_deref().and_then(|hash| std::str::from_utf8(hash).ok());
            let matches = bcrypt::verify(password.as_bytes(), text.unwrap_or(&decoy)).unwrap_or(false);
            check.conclude(match hash {
                Some(hash) if matches && text_is(&hash) => {
                    logins.lock().remember(&name, &hash, password.as_bytes(), Instant::now());
                    true
                }
                _ => false,
            });
        }))?;
        answered.await.map_err(|_| PasswordError::Failed)
    }

    async fn ask<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move || {
            // Nobody waits any more: the work would be for nothing.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        });
        self.hand_on(work)?;
        answered.await.map_err(|_| PasswordError::Failed)
    }

    fn hand_on(&self, work: Work) -> Result<(), PasswordError> {
        self.queue.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => PasswordError::Full,
            TrySendError::Disconnected(_) => PasswordError::Failed,
        })
    }
}

fn text_is(hash: &[u8]) -> bool {
    std::str::from_utf8(hash).is_ok()
}

/// A password that is overwritten when it is dropped: as much of it as bcrypt looks at.
struct Wiped(Vec<u8>);

fn wiped(password: String) -> Wiped {
    let whole = Wiped(password.into_bytes());
    if whole.0.len() <= PASSWORD_BYTES_MAX {
        return whole;
    }
    // What waits in the queue is small, however much a caller sent.
    Wiped(whole.0[..PASSWORD_BYTES_MAX].to_vec())
}

impl Wiped {
    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

fn run(work: &Mutex<Receiver<Work>>) {
    // Where the system does not let it, the threads are as important as the others.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    loop {
        let next = work.lock().recv();
        match next {
            Ok(work) => work(),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_hash_is_as_etcds_and_fits_its_password_only() {
        let passwords = Passwords::start(4).unwrap();
        block_on(async {
            let hash = passwords.hash("p\u{e4}ss".to_owned()).await.unwrap();
            assert!(hash.starts_with("$2a$04$") && hash.len() == 60, "{hash}");
            let hash = hash.as_bytes();
            assert_eq!(passwords.verify("user", Some(hash), "p\u{e4}ss".to_owned()).await, Ok(true));
            assert_eq!(passwords.verify("user", Some(hash), "p\u{e4}ss".to_owned()).await, Ok(true), "remembered");
            assert_eq!(passwords.verify("user", Some(hash), "pass".to_owned()).await, Ok(false));
            assert_eq!(passwords.verify("nobody", None, "p\u{e4}ss".to_owned()).await, Ok(false));
            assert_eq!(passwords.verify("user", Some(b"no hash"), "x".to_owned()).await, Ok(false));
            assert_eq!(passwords.verify("user", Some(b"\xff"), "x".to_owned()).await, Ok(false));
        });
    }

    #[test]
    fn what_another_library_hashed_is_verified() {
        // libxcrypt's, of "rootpw".
        let passwords = Passwords::start(4).unwrap();
        let hash = FOREIGN_HASH.as_bytes();
        assert_eq!(block_on(passwords.verify("root", Some(hash), "rootpw".to_owned())), Ok(true));
        assert_eq!(block_on(passwords.verify("root", Some(hash), "rootpx".to_owned())), Ok(false));
    }

    const FOREIGN_HASH: &str = "$2a$04$abcdefghijklmnopqrstuu3ymjToNpY3HIoI9.gZb.bImrUTZHUmy";

    #[test]
    fn bcrypts_bound_is_told() {
        let passwords = Passwords::start(4).unwrap();
        block_on(async {
            assert_eq!(passwords.hash("x".repeat(73)).await, Err(PasswordError::TooLong));
            let hash = passwords.hash("x".repeat(72)).await.unwrap();
            assert_eq!(passwords.verify("user", Some(hash.as_bytes()), "x".repeat(72)).await, Ok(true));
            assert_eq!(passwords.verify("user", Some(hash.as_bytes()), "x".repeat(71)).await, Ok(false));
        });
    }

    #[test]
    fn the_decoy_is_a_hash() {
        for cost in [4, 10] {
            let parts: bcrypt::HashParts = decoy(cost).parse().expect("a hash");
            assert_eq!(parts.get_cost(), cost);
        }
    }

    #[test]
    fn costs_that_bcrypt_has_not_become_etcds_default() {
        for cost in [0, 3, 32, u64::MAX] {
            assert_eq!(Passwords::start(cost).unwrap().cost, COST_DEFAULT);
        }
        assert_eq!(Passwords::start(31).unwrap().cost, 31);
    }

    /// As after a restart, when all clients of one user come back at once.
    #[test]
    fn ten_thousand_log_ins_of_one_user_at_a_time_are_one_check() {
        let (queue, held) = sync_channel::<Work>(1);
        let logins = Arc::new(Mutex::new(Logins::new([0; 32])));
        let passwords = Passwords { cost: 4, queue, logins, checks: Checks::default() };
        let hash = FOREIGN_HASH.as_bytes();
        let (outcomes, ()) = block_on(async {
            let log_ins = (0..10_000).map(|_| passwords.verify("root", Some(hash), "rootpw".to_owned()));
            let work = async { held.recv().expect("one check")() };
            futures::future::join(futures::future::join_all(log_ins), work).await
        });
        assert!(outcomes.iter().all(|outcome| *outcome == Ok(true)));
        assert!(held.try_recv().is_err(), "nothing else was queued");
    }

    #[test]
    fn what_bcrypt_does_not_look_at_does_not_wait() {
        assert_eq!(wiped("x".repeat(1 << 20)).0.capacity(), PASSWORD_BYTES_MAX);
    }

    #[test]
    fn a_full_queue_refuses() {
        let (queue, held) = sync_channel::<Work>(1);
        let logins = Arc::new(Mutex::new(Logins::new([0; 32])));
        let passwords = Passwords { cost: 4, queue, logins, checks: Checks::default() };
        block_on(async {
            let mut first = Box::pin(passwords.hash("x".to_owned()));
            assert!(futures::poll!(first.as_mut()).is_pending());
            assert_eq!(passwords.hash("y".to_owned()).await, Err(PasswordError::Full));
            assert_eq!(passwords.verify("user", None, "y".to_owned()).await, Err(PasswordError::Full));
            assert_eq!(passwords.verify("user", None, "y".to_owned()).await, Err(PasswordError::Full), "again");
            drop(held);
            assert_eq!(first.await, Err(PasswordError::Failed));
        });
    }
}
