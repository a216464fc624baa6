//! The accept loop of the gRPC port: what no peer and no shortage of file descriptors may end or make spin. Used by
//! `server`; knows nothing of gRPC.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

/// Descriptors kept for segments, Kafka and metrics, whatever clients do.
const RESERVED_DESCRIPTORS: u64 = 512;

/// How long accepting rests when the system refuses, most likely for want of descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// A connection is probed after so long without a packet,
const PROBE_AFTER: Duration = Duration::from_secs(60);
/// and so often until it answers or is given up.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// A connection that counts against the limit until it is dropped.
pub(super) struct Connection {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

/// A connection on its way to the thread that will serve it.
pub(super) struct Accepted {
    stream: std::net::TcpStream,
    permit: OwnedSemaphorePermit,
}

/// Accepts connections endlessly and gives each away; those beyond the limit are closed at once.
pub(super) async fn accept(listener: TcpListener, mut give: impl FnMut(Accepted)) {
    let limit = connection_limit();
    let permits = Arc::new(Semaphore::new(limit));
    loop {
        give(next(&listener, &permits, limit).await);
    }
}

/// The connections a thread was given, as tonic takes them; to be called on that thread.
pub(super) fn connections(given: UnboundedReceiver<Accepted>) -> impl Stream<Item = io::Result<Connection>> {
    futures::stream::unfold(given, |mut given| async move {
        let Accepted { stream, permit } = given.recv().await?;
        let stream = TcpStream::from_std(stream);
        Some((stream.map(|stream| Connection { stream, _permit: permit }), given))
    })
}

async fn next(listener: &TcpListener, permits: &Arc<Semaphore>, limit: usize) -> Accepted {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "gRPC: cannot accept a connection; trying again");
                tokio::time::sleep(REFUSED_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            tracing::warn!(limit, "gRPC: too many connections; the newest is closed");
            drop(stream);
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        match prepare(&stream).and_then(|()| stream.into_std()) {
            Ok(stream) => return Accepted { stream, permit },
            Err(error) => tracing::debug!(%error, "gRPC: a connection went before it was served"),
        }
    }
}

/// Small answers do not wait for the acknowledgement of the one before. A peer that went without a word is noticed by
/// the kernel: HTTP/2's own pings would cost every request a lock and a look at the clock.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// Raises the soft limit of open files to the hard one and gives what of it clients may use.
fn connection_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let hard = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        match setrlimit(Resource::Nofile, hard) {
            Ok(()) => limit = hard,
            Err(error) => tracing::warn!(%error, "the limit of open files stays at its soft value"),
        }
    }
    let files = limit.current.unwrap_or(u64::from(u32::MAX));
    let usable = files.saturating_sub(RESERVED_DESCRIPTORS).max(files / 2);
    (usable as usize).clamp(1, Semaphore::MAX_PERMITS)
}

impl Connected for Connection {
    type ConnectInfo = <TcpStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
