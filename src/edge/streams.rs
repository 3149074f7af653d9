//! The requests under way on one HTTP/2 connection: each is a task that ends with its connection, or when its client
//! takes nothing of its answer.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{task::JoinSet, time::Instant};

use super::flood::Credit;
use crate::{
    body::{Body, BodyError},
    proxy::Account,
    wire::Timer,
};

/// How long a client may take nothing of an answer: less than a piece of a body in this time is nothing.
const STALL: Duration = Duration::from_secs(30);

/// The streams of one connection.
#[derive(Debug)]
pub struct Streams {
    tasks: RefCell<JoinSet<()>>,
    /// Of the request that was taken and has no task yet.
    taken: RefCell<Option<Rc<Progress>>>,
    credit: Credit,
    open: Cell<usize>,
    served: Cell<bool>,
    quiet_since: Cell<Instant>,
}

/// How far an answer has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// Since when the client has to take what it was given; `None`: it waits for us.
    given: Cell<Option<Instant>>,
    credit: Credit,
}

impl Streams {
    /// None yet.
    #[must_use]
    pub fn new(credit: Credit) -> Rc<Self> {
        Rc::new(Self {
            tasks: RefCell::default(),
            taken: RefCell::default(),
            credit,
            open: Cell::new(0),
            served: Cell::new(false),
            quiet_since: Cell::new(Instant::now()),
        })
    }

    /// A request came: the next task is its. Gives where to note how its answer comes forward.
    #[must_use]
    pub fn take(&self) -> Rc<Progress> {
        self.credit.request();
        let progress = Rc::new(Progress { given: Cell::default(), credit: self.credit.clone() });
        *self.taken.borrow_mut() = Some(progress.clone());
        progress
    }

    /// Whether there was any request so far.
    #[must_use]
    pub fn has_served(&self) -> bool {
        self.served.get()
    }

    /// Since when no request is under way; `None`: one is.
    #[must_use]
    pub fn quiet_since(&self) -> Option<Instant> {
        (self.open.get() == 0).then(|| self.quiet_since.get())
    }

    /// Ends all.
    pub fn end(&self) {
        let tasks = self.tasks.take();
        // Not while it is borrowed: what ends may look at it.
        drop(tasks);
    }
}

/// Gives the tasks of a connection to their owner.
#[derive(Clone, Debug)]
pub struct Spawn(pub Rc<Streams>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, stream: F) {
        let progress = self.0.taken.take().unwrap_or_default();
        let open = Open::begin(self.0.clone());
        let tasks = &mut *self.0.tasks.borrow_mut();
        while let Some(ended) = tasks.try_join_next() {
            if ended.is_err_and(|e| e.is_panic()) {
                tracing::error!("a request ended in a panic");
            }
        }
        tasks.spawn_local(async move {
            let _open = open;
            let mut stream = pin!(stream);
            let mut timer = Timer::default();
            poll_fn(|cx| match (stream.as_mut().poll(cx), progress.given.get()) {
                (Poll::Pending, Some(since)) => timer.poll(cx, since + STALL),
                (Poll::Pending, None) => Poll::Pending,
                (Poll::Ready(()), _) => Poll::Ready(()),
            })
            .await;
        });
    }
}

struct Open(Rc<Streams>);

impl Open {
    fn begin(of: Rc<Streams>) -> Self {
        of.open.set(of.open.get() + 1);
        of.served.set(true);
        Self(of)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.quiet_since.set(Instant::now());
    }
}

/// The body of an answer, with the account that ends with it.
pub struct Answered {
    body: Body,
    progress: Rc<Progress>,
    account: Account,
}

impl Answered {
    /// A body that goes out on a stream.
    #[must_use]
    pub fn new(body: Body, progress: Rc<Progress>, account: Account) -> Self {
        Self { body, progress, account }
    }
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.body.poll_piece(cx);
        // It is asked again only once the client has room for more.
        self.progress.given.set(polled.is_ready().then(Instant::now));
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.progress.credit.piece(bytes);
            self.account.sent(bytes as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use hyper::rt::Executor as _;
    use tokio::{runtime::LocalRuntime, time::sleep};

    use super::*;

    /// Whether a request is under way still after so many seconds; `given`: its client has something to take.
    fn lasts(seconds: u64, given: bool) -> bool {
        let runtime = LocalRuntime::new().unwrap();
        runtime.block_on(async {
            tokio::time::pause();
            let streams = Streams::new(Credit::default());
            let progress = streams.take();
            progress.given.set(given.then(Instant::now));
            Spawn(streams.clone()).execute(pending());
            sleep(Duration::from_secs(seconds)).await;
            streams.quiet_since().is_none()
        })
    }

    #[test]
    fn a_client_that_takes_nothing_for_half_a_minute_loses_its_stream() {
        assert!(lasts(29, true));
        assert!(!lasts(31, true));
        assert!(lasts(3600, false), "a service may take its time");
    }

    #[test]
    fn the_end_of_a_connection_ends_its_streams() {
        let runtime = LocalRuntime::new().unwrap();
        runtime.block_on(async {
            let streams = Streams::new(Credit::default());
            let held = Rc::new(());
            let of_stream = held.clone();
            Spawn(streams.clone()).execute(async move {
                pending::<()>().await;
                drop(of_stream);
            });
            tokio::task::yield_now().await;
            streams.end();
            tokio::task::yield_now().await;
            assert_eq!(Rc::strong_count(&held), 1);
            assert!(streams.quiet_since().is_some() && streams.has_served());
        });
    }
}
