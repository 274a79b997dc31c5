//! Owns nothing: the tests of the published crate `etcd-client` are in `tests/`.
