//! What was asked of the tree since start, for `/v2/stats/store`. Each member counts for itself.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Stats { $(pub(super) $name: AtomicU64,)* }

        /// The counters' values.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct StatsCounts {
            $($(#[doc = $doc])* pub $name: u64,)*
            /// Watchers that wait.
            pub watchers: u64,
        }

        impl Stats {
            pub(crate) fn counts(&self, watchers: u64) -> StatsCounts {
                StatsCounts { $($name: self.$name.load(Relaxed),)* watchers }
            }
        }
    };
}

counters! {
    /// Reads that found something.
    gets_success,
    /// Reads that did not.
    gets_fail,
    /// Of `set`.
    sets_success,
    /// Of `set`.
    sets_fail,
    /// Of `delete`.
    delete_success,
    /// Of `delete`.
    delete_fail,
    /// Of `update`.
    update_success,
    /// Of `update`.
    update_fail,
    /// Of `create`.
    create_success,
    /// Of `create`.
    create_fail,
    /// Of `compareAndSwap`.
    compare_and_swap_success,
    /// Of `compareAndSwap`.
    compare_and_swap_fail,
    /// Of `compareAndDelete`.
    compare_and_delete_success,
    /// Of `compareAndDelete`.
    compare_and_delete_fail,
    /// Nodes that died of age.
    expire_count,
}

impl Stats {
    pub(crate) fn count(&self, action: super::Action, succeeded: bool) {
        use super::Action;
        let (success, fail) = match action {
            Action::Get => (&self.gets_success, &self.gets_fail),
            Action::Set => (&self.sets_success, &self.sets_fail),
            Action::Create => (&self.create_success, &self.create_fail),
            Action::Update => (&self.update_success, &self.update_fail),
            Action::Delete => (&self.delete_success, &self.delete_fail),
            Action::CompareAndSwap => (&self.compare_and_swap_success, &self.compare_and_swap_fail),
            Action::CompareAndDelete => (&self.compare_and_delete_success, &self.compare_and_delete_fail),
            Action::Expire => (&self.expire_count, &self.expire_count),
        };
        (if succeeded { success } else { fail }).fetch_add(1, Relaxed);
    }
}
