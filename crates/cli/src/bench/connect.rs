//! Connections to the servers.
//!
//! It owns the channel's settings. The invariant: each channel is one TCP connection of its own, and it is up before
//! the run starts, so that no measured call pays for a handshake.

use anyhow::Context;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// The flow-control windows of a connection and of each stream. Windows that never fill keep the transport from
/// splitting answers and from sending a window update for each of them.
const WINDOW_BYTES: u32 = 16 << 20;

/// The largest answer that is accepted: what etcd's own client accepts. A range over the whole prefix may be large.
pub(crate) const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// Opens `number` connections, spread over the endpoints in turn.
pub(crate) async fn connect(endpoints: &[String], number: usize, timeout: Duration) -> anyhow::Result<Vec<Channel>> {
    let mut channels = Vec::with_capacity(number);
    for url in endpoints.iter().cycle().take(number) {
        let endpoint = Endpoint::from_shared(url.clone())
            .with_context(|| format!("endpoint {url}"))?
            .connect_timeout(timeout)
            .tcp_nodelay(true)
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_stream_window_size(WINDOW_BYTES);
        let channel = endpoint.connect().await.with_context(|| format!("connecting to {url}"))?;
        channels.push(channel);
    }
    Ok(channels)
}
