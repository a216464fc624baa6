//! How much read work there may be at a time. A read over gRPC counts from when its connection has it until its answer is
//! made, and the answer's bytes until they are sent; past the bounds a read is refused before anything is done for it,
//! with a hint when to try again. So a server with more to do than it can says so at once, and those it does answer are
//! answered soon. Wrapped around the services by `server`; knows calls by their paths only. Of the requests of streams only
//! those that wait count, which `stream` asks for: the others are answered as they are taken, and a stream whose answers
//! nobody takes is not read.
//!
//! ```text
//!  connection ─► in flight? ── no room ───────────────────────────────┐
//!                   │ its turn: has it waited too long, is it too late, │
//!                   ▼ are too many bytes unsent? ─────────────────────► RESOURCE_EXHAUSTED, RetryInfo
//!                service ─► answer, encoded ─► bytes unsent until the connection has them
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Task, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};

use super::deadline;
use super::errors::{overloaded, too_late};

/// What there may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Reads whose answers are not made yet.
    pub in_flight: u64,
    /// Bytes of answers that are not sent yet; an answer that has begun is finished.
    pub unsent_bytes: u64,
    /// How long a read may wait for its turn.
    pub queue: Duration,
}

/// Why a read was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// Too many in flight.
    InFlight,
    /// Too many bytes of answers not sent.
    Unsent,
    /// It waited too long for its turn.
    Queue,
    /// Its deadline passed while it waited for its turn.
    Deadline,
}

/// The reads of this server that are under way.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    in_flight: AtomicU64,
    unsent_bytes: AtomicU64,
    /// How long the read whose turn came last had waited for it, µs.
    waited_us: AtomicU64,
    shed: [AtomicU64; Shed::ALL.len()],
}

/// Calls that count as reads.
const READS: [&str; 6] = [
    "/forebay.v1.FeatureStore/GetFeatures",
    "/forebay.v1.FeatureStore/GetHistory",
    "/forebay.v1.Diagnoses/GetDiagnosis",
    "/forebay.v1.Diagnoses/GetSnapshot",
    "/forebay.v1.Diagnoses/ListDiagnoses",
    "/forebay.v1.Diagnoses/AssembleSnapshot",
];

/// Smaller pieces of answers are not counted: HTTP/2 bounds how many answers of a connection there are.
const LEAST_COUNTED: usize = 4 << 10;

/// The shortest and the longest time after which to try again.
const SOONEST: Duration = Duration::from_millis(20);
const LATEST: Duration = Duration::from_secs(2);

impl Shed {
    /// Every reason.
    pub const ALL: [Shed; 4] = [Shed::InFlight, Shed::Unsent, Shed::Queue, Shed::Deadline];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Shed::InFlight => "in_flight",
            Shed::Unsent => "unsent",
            Shed::Queue => "queue",
            Shed::Deadline => "deadline",
        }
    }
}

impl Admission {
    /// Nothing is under way yet.
    pub fn new(limits: Limits) -> Arc<Admission> {
        Arc::new(Admission {
            limits,
            in_flight: AtomicU64::new(0),
            unsent_bytes: AtomicU64::new(0),
            waited_us: AtomicU64::new(0),
            shed: Default::default(),
        })
    }

    /// What there may be at most.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Reads whose answers are not made yet.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Bytes of answers that are not sent yet.
    pub fn unsent_bytes(&self) -> u64 {
        self.unsent_bytes.load(Ordering::Relaxed)
    }

    /// How many reads were refused for this reason.
    pub fn shed(&self, reason: Shed) -> u64 {
        self.shed[reason as usize].load(Ordering::Relaxed)
    }

    /// Takes a read in, if there is room. It counts until what this gives is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Held, Status> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let held = Held(self.clone());
        match before < self.limits.in_flight {
            true => Ok(held),
            false => Err(self.refuse(Shed::InFlight, "too many reads are in flight")),
        }
    }

    /// Refuses a read while too many bytes of answers are not sent.
    pub(super) fn check_unsent(&self) -> Result<(), Status> {
        match self.unsent_bytes() < self.limits.unsent_bytes {
            true => Ok(()),
            false => Err(self.refuse(Shed::Unsent, "too many bytes of answers are not taken yet")),
        }
    }

    /// Whether a read is still to be answered when its turn comes.
    fn begin(&self, arrived: Instant, timeout: Option<Duration>) -> Result<(), Status> {
        let waited = arrived.elapsed();
        self.waited_us.store(waited.as_micros() as u64, Ordering::Relaxed);
        if timeout.is_some_and(|timeout| waited >= timeout) {
            self.count(Shed::Deadline);
            return Err(too_late("the deadline passed before the call could begin: this server is busy"));
        }
        if waited > self.limits.queue {
            return Err(self.refuse(Shed::Queue, "it waited too long for its turn"));
        }
        self.check_unsent()
    }

    #[cold]
    fn refuse(&self, reason: Shed, what: &str) -> Status {
        self.count(reason);
        // About when what is in the queue now will be done.
        let waited = Duration::from_micros(self.waited_us.load(Ordering::Relaxed));
        let after = (waited * 2).clamp(SOONEST, LATEST);
        overloaded(format!("this server is busy: {what}; nothing was done, try again later"), after)
    }

    fn count(&self, reason: Shed) {
        self.shed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// A read that counts for as long as it lives.
#[derive(Debug)]
pub(super) struct Held(Arc<Admission>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The services with the bounds around them.
#[derive(Clone)]
pub(super) struct Bounded<S> {
    services: S,
    admission: Arc<Admission>,
}

impl<S> Bounded<S> {
    pub(super) fn new(services: S, admission: Arc<Admission>) -> Bounded<S> {
        Bounded { services, admission }
    }
}

impl<S> Service<http::Request<Body>> for Bounded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Unpin,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Call<S::Future>;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), S::Error>> {
        self.services.poll_ready(task)
    }

    fn call(&mut self, request: http::Request<Body>) -> Call<S::Future> {
        if !READS.contains(&request.uri().path()) {
            return Call::Uncounted(self.services.call(request));
        }
        match self.admission.enter() {
            Err(refused) => Call::Refused(Some(refused)),
            Ok(held) => {
                let waiting = Some((Instant::now(), deadline::timeout(request.headers())));
                Call::Read { call: self.services.call(request), held, waiting }
            }
        }
    }
}

/// One call.
pub(super) enum Call<F> {
    Uncounted(F),
    Refused(Option<Status>),
    Read {
        call: F,
        held: Held,
        /// When it arrived, and how long its caller waits; nothing once its turn has come.
        waiting: Option<(Instant, Option<Duration>)>,
    },
}

impl<F, E> Future for Call<F>
where
    F: Future<Output = Result<http::Response<Body>, E>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<F::Output> {
        match &mut *self {
            Call::Uncounted(call) => Pin::new(call).poll(task),
            Call::Refused(refused) => Poll::Ready(Ok(refusal(refused.take()))),
            Call::Read { call, held, waiting } => {
                if let Some((arrived, timeout)) = waiting.take()
                    && let Err(refused) = held.0.begin(arrived, timeout)
                {
                    return Poll::Ready(Ok(refusal(Some(refused))));
                }
                let answer = ready!(Pin::new(call).poll(task))?;
                Poll::Ready(Ok(answer.map(|body| counted(body, &held.0, task))))
            }
        }
    }
}

fn refusal(status: Option<Status>) -> http::Response<Body> {
    status.unwrap_or_else(|| Status::internal("a call was polled after its end")).into_http()
}

/// Has an answer encoded now, so that its bytes count from now on, taken or not.
fn counted(mut body: Body, admission: &Arc<Admission>, task: &mut Task<'_>) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let first = match Pin::new(&mut body).poll_frame(task) {
        Poll::Pending => None,
        Poll::Ready(first) => Some(first.map(|frame| frame.map(|frame| unsent(frame, admission)))),
    };
    Body::new(Answer { body, first, admission: admission.clone() })
}

/// What `poll_frame` gives.
type NextFrame = Option<Result<Frame<Bytes>, Status>>;

/// An answer on its way.
struct Answer {
    body: Body,
    /// What was polled ahead.
    first: Option<NextFrame>,
    admission: Arc<Admission>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<NextFrame> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(first);
        }
        let next = ready!(Pin::new(&mut self.body).poll_frame(task));
        Poll::Ready(next.map(|frame| frame.map(|frame| unsent(frame, &self.admission))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }
}

/// Counts a piece of an answer until the connection lets go of it.
fn unsent(frame: Frame<Bytes>, admission: &Arc<Admission>) -> Frame<Bytes> {
    frame.map_data(|bytes| {
        if bytes.len() < LEAST_COUNTED {
            return bytes;
        }
        admission.unsent_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Bytes::from_owner(Piece { bytes, admission: admission.clone() })
    })
}

/// Bytes that are not sent.
struct Piece {
    bytes: Bytes,
    admission: Arc<Admission>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.admission.unsent_bytes.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}
