//! Users, roles and permissions: the replicated facts, and the one place that says who may do what.
//!
//! Owns the auth state, its changes, and [`AuthView::authorize`]. Does not own tokens, password checks or certificates:
//! who a caller is was established before. Invariant: every act that is not known here is denied.

mod act;
mod authorize;
mod calls;
mod change;
mod error;
mod role;
mod spans;
mod user;
mod view;

#[cfg(test)]
mod authorize_tests;
#[cfg(test)]
mod spans_tests;
#[cfg(test)]
mod view_tests;

pub use act::Act;
pub use authorize::cluster_caller;
pub(crate) use change::Changed;
pub use error::AuthError;
pub use role::Role;
pub use user::User;
pub use view::AuthView;

/// The user and the role that may do everything.
pub const ROOT: &str = "root";
