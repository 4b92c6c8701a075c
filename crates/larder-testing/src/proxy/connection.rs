//! One connection through the proxy.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

use super::{ProxyMode, Setting, Shared, commands::CommandReader};

/// What is read at once, in bytes, and how many such pieces may be under way.
const PIECE: usize = 64 << 10;
const PIECES: usize = 256;

/// No type of the protocol begins with this byte.
const GARBAGE: &[u8] = b"\x00garbage\r\n";

type Modes = watch::Receiver<Setting>;

/// Serves a connection until one side ends it or the mode does.
pub(super) async fn serve(client: TcpStream, server: SocketAddr, mode: Modes, shared: Arc<Shared>) {
    let _open = Open::new(&shared);
    let mut client = client;
    let reset = {
        let mut ending = mode.clone();
        tokio::select! {
            biased;
            // An error means that the proxy is gone; the connection then ends with it.
            _ = ending.wait_for(|setting| matches!(setting.mode, ProxyMode::Reset | ProxyMode::Refuse)) => true,
            outcome = forward(&mut client, server, &mode, &shared) => outcome.is_err(),
        }
    };
    if reset {
        // It fails only for a connection that is gone already.
        drop(client.set_zero_linger());
    }
}

async fn forward(client: &mut TcpStream, server: SocketAddr, mode: &Modes, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    passing(mode).await;
    let mut server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let (pieces, arriving) = mpsc::channel(PIECES);
    tokio::try_join!(
        receive(from_client, mode, pieces),
        deliver(to_server, mode, shared, arriving),
        answer(from_server, to_client, mode),
    )?;
    Ok(())
}

/// Completes when bytes may pass.
async fn passing(mode: &Modes) {
    // An error means that the proxy is gone; its connections are ended with it.
    drop(mode.clone().wait_for(|setting| setting.mode != ProxyMode::Blackhole).await);
}

/// Reads what the client sends and notes when it is due at the server. What a client that has gone had sent still arrives, as
/// what lies in a server's socket buffer does.
async fn receive(mut client: ReadHalf<'_>, mode: &Modes, pieces: mpsc::Sender<(Instant, Bytes)>) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        if !matches!(client.read_buf(&mut buffer).await, Ok(1..)) {
            return Ok(());
        }
        let due = match mode.borrow().mode {
            ProxyMode::Delay(delay) => Instant::now() + delay,
            _ => Instant::now(),
        };
        if pieces.send((due, buffer.split().freeze())).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes it to the server when it is due, and counts its commands.
async fn deliver(
    mut server: WriteHalf<'_>,
    mode: &Modes,
    shared: &Shared,
    mut arriving: mpsc::Receiver<(Instant, Bytes)>,
) -> io::Result<()> {
    let mut commands = CommandReader::default();
    let mut delivered = 0;
    while let Some((due, mut piece)) = arriving.recv().await {
        tokio::time::sleep_until(due).await;
        let mut names = Vec::new();
        commands.read(&piece, |name| names.push(name));
        if let Some(delay) = shared.lateness(&names) {
            tokio::time::sleep(delay).await;
        }
        passing(mode).await;
        let current = mode.borrow().mode;
        if let ProxyMode::Cut(limit) = current {
            let rest = limit.saturating_sub(delivered);
            piece.truncate(rest);
            delivered += piece.len();
            server.write_all(&piece).await?;
            commands.read(&piece, |name| shared.count_command(name));
            if piece.len() == rest {
                server.shutdown().await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            continue;
        }
        delivered = 0;
        server.write_all(&piece).await?;
        names.into_iter().for_each(|name| shared.count_command(name));
    }
    passing(mode).await;
    server.shutdown().await
}

/// Passes the server's answers to the client, until it is told that there are no more.
async fn answer(mut server: ReadHalf<'_>, mut client: WriteHalf<'_>, mode: &Modes) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut half_closed = mode.clone();
    let passed = tokio::select! {
        biased;
        _ = half_closed.wait_for(|setting| setting.mode == ProxyMode::HalfClose) => Ok(()),
        passed = pass_answers(&mut server, &mut client, mode, &mut buffer) => passed,
    };
    passed?;
    // It fails only for a client that is gone.
    drop(client.shutdown().await);
    while server.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Ends without an error where the server or the client does.
async fn pass_answers(
    server: &mut ReadHalf<'_>,
    client: &mut WriteHalf<'_>,
    mode: &Modes,
    buffer: &mut [u8],
) -> io::Result<()> {
    let mut truncated = 0;
    loop {
        let length = server.read(buffer).await?;
        let mode_at_arrival = mode.borrow().mode;
        if let ProxyMode::DelayAnswers(delay) = mode_at_arrival {
            tokio::time::sleep(delay).await;
        }
        passing(mode).await;
        if length == 0 {
            return Ok(());
        }
        let current = mode.borrow().mode;
        if let ProxyMode::Truncate(limit) = current {
            let rest = limit.saturating_sub(truncated);
            if client.write_all(&buffer[..length.min(rest)]).await.is_err() || length >= rest {
                return Ok(());
            }
            truncated += length;
            continue;
        }
        truncated = 0;
        if current == ProxyMode::Garbage && client.write_all(GARBAGE).await.is_err() {
            return Ok(());
        }
        if client.write_all(&buffer[..length]).await.is_err() {
            return Ok(());
        }
    }
}

/// Counts a connection as open.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.open.send_modify(|open| *open += 1);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}
