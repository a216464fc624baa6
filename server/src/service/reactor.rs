//! The threads that serve gRPC: each with a runtime of its own, for the connections it is given. A small read costs less
//! than handing it to another core, so a connection and all of its calls stay on one thread. Used by `server`.

use std::future::Future;
use std::io;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::listen::Accepted;

/// One thread; ends when its server does.
pub(super) struct Reactor {
    connections: mpsc::UnboundedSender<Accepted>,
    ended: oneshot::Receiver<anyhow::Result<()>>,
}

impl Reactor {
    /// Starts a thread that runs what `serve` makes of the connections it will be given.
    pub(super) fn start<F>(
        number: usize,
        serve: impl FnOnce(mpsc::UnboundedReceiver<Accepted>) -> F + Send + 'static,
    ) -> io::Result<Reactor>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let (connections, given) = mpsc::unbounded_channel();
        let (tell, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name(format!("grpc-{number}")).spawn(move || {
            let outcome = runtime.block_on(serve(given));
            // What is still under way ends here; nobody waits for files or threads it may hold.
            runtime.shutdown_background();
            // Nobody listens any more when the whole server is gone.
            tell.send(outcome).ok();
        })?;
        Ok(Reactor { connections, ended })
    }

    /// Gives it a connection. One that has ended closes it.
    pub(super) fn give(&self, connection: Accepted) {
        self.connections.send(connection).ok();
    }

    /// How it ended, once it has.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        match (&mut self.ended).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("a gRPC thread ended by a mistake of this program")),
        }
    }
}
