//! A TCP proxy between a client and a member, which lets pass, pauses (a partition: nothing is lost and nothing arrives) or
//! cuts (connections end, new ones are closed).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    Pause,
    Cut,
}

pub struct Proxy {
    pub address: String,
    mode: watch::Sender<Mode>,
    task: AbortHandle,
}

impl Proxy {
    pub async fn to(member: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port").to_string();
        let (mode, modes) = watch::channel(Mode::Pass);
        let member = member.to_owned();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let (member, mut modes) = (member.clone(), modes.clone());
                tokio::spawn(async move {
                    let mut watched = modes.clone();
                    tokio::select! {
                        () = connect(client, member, modes.clone()) => {}
                        _ = watched.wait_for(|mode| *mode == Mode::Cut) => {}
                        // The proxy is gone.
                        _ = async { while modes.changed().await.is_ok() {} } => {}
                    }
                });
            }
        });
        Self { address, mode, task: task.abort_handle() }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(client: TcpStream, member: String, mut modes: watch::Receiver<Mode>) {
    if modes.wait_for(|mode| *mode == Mode::Pass).await.is_err() {
        return;
    }
    let Ok(member) = TcpStream::connect(member).await else { return };
    let (client_read, client_write) = client.into_split();
    let (member_read, member_write) = member.into_split();
    tokio::select! {
        () = copy(client_read, member_write, modes.clone()) => {}
        () = copy(member_read, client_write, modes) => {}
    }
}

async fn copy<R, W>(mut from: R, mut to: W, mut modes: watch::Receiver<Mode>)
where
    R: AsyncReadExt + Unpin,
    W: AsyncWriteExt + Unpin,
{
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return };
        if read == 0 || modes.wait_for(|mode| *mode == Mode::Pass).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
