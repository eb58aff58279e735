//! The host link over a virtio-serial port.
//!
//! While the host's end of the port is closed, the port reports a hang-up, and a read
//! returns end of file. The hang-up is not final: the host may open its end again. So
//! a separate, edge-triggered epoll watches the port and hides the hang-ups
//! from the runtime, which would treat them as final.
//!
//! One epoll watches both directions, and an edge wakes the reader and the writer. Polling this
//! device has a side effect: the driver takes a received buffer off its queue when the port is
//! polled, whatever the poll is for. When the buffer's interrupt comes after that, the driver finds
//! the queue empty and wakes no task. So a poll that is interested only in writing, as a second epoll
//! would make, loses the wake-up of the reader: the guest then waits for ever for a request that it
//! has already received.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::watch::watch;

/// The port's name, which the host assigns.
const NAME: &str = "mimeo";

/// Most bytes that one read from the port returns: the driver receives into single pages.
const PORT_READ: usize = 4096;

/// The device file of the port, if the kernel has found it.
pub(crate) fn find() -> Option<PathBuf> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports.flatten().find_map(|port| {
        let name = std::fs::read_to_string(port.path().join("name")).ok()?;
        (name.trim() == NAME).then(|| PathBuf::from("/dev").join(port.file_name()))
    })
}

/// Opens the port in non-blocking mode.
pub(crate) fn open(path: &std::path::Path) -> io::Result<Arc<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(Arc::new(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Both directions of the port, for one or more sessions.
pub(crate) fn split(port: Arc<OwnedFd>) -> io::Result<(PortReader, PortWriter)> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let both = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    epoll::add(&epoll, &port, EventData::new_u64(0), both)?;
    let edges = watch(epoll, Interest::READABLE)?;
    let watched = Arc::new(Watched { port, edges, directions: Arc::default() });
    Ok((PortReader { watched: watched.clone(), received_any: false }, PortWriter { watched }))
}

/// The port, and the epoll that watches it.
#[derive(Debug)]
struct Watched {
    port: Arc<OwnedFd>,
    edges: AsyncFd<OwnedFd>,
    directions: Arc<Directions>,
}

/// A direction of the port; its index in [`Directions`].
#[derive(Debug, Clone, Copy)]
enum Direction {
    Read,
    Write,
}

/// The state of the two directions.
#[derive(Debug)]
struct Directions([Mutex<DirectionState>; 2]);

#[derive(Debug)]
struct DirectionState {
    /// The port may have changed since the last attempt that would have blocked. Otherwise another attempt
    /// would block, too: it is not made, which saves a system call each time that the task is polled.
    may_succeed: bool,
    waiting: Option<Waker>,
}

impl Default for Directions {
    fn default() -> Self {
        Self([(); 2].map(|()| Mutex::new(DirectionState { may_succeed: true, waiting: None })))
    }
}

impl Directions {
    fn state(&self, direction: Direction) -> MutexGuard<'_, DirectionState> {
        self.0[direction as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an attempt may succeed. Until it does, only a later edge permits another.
    fn begin_attempt(&self, direction: Direction) -> bool {
        std::mem::take(&mut self.state(direction).may_succeed)
    }

    /// Registers a waker for the next edge; returns whether there was one since the last attempt.
    fn register(&self, direction: Direction, waker: &Waker) -> bool {
        let mut state = self.state(direction);
        match &mut state.waiting {
            Some(present) => present.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
        state.may_succeed
    }

    /// Records that the port has changed.
    fn record_edge(&self) {
        for direction in [Direction::Read, Direction::Write] {
            self.state(direction).may_succeed = true;
        }
    }
}

impl Wake for Directions {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        for direction in [Direction::Read, Direction::Write] {
            let waiting = self.state(direction).waiting.take();
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl Watched {
    /// Repeats `operation` whenever the port changes, until it has a result.
    fn poll_until<T>(
        &self,
        direction: Direction,
        context: &mut Context<'_>,
        mut operation: impl FnMut(&OwnedFd) -> io::Result<Option<T>>,
    ) -> Poll<io::Result<T>> {
        // The runtime stores only one waker: this one wakes both directions.
        let both = Waker::from(self.directions.clone());
        loop {
            if self.directions.begin_attempt(direction)
                && let Some(done) = operation(&self.port).transpose()
            {
                self.directions.state(direction).may_succeed = true;
                return Poll::Ready(done);
            }
            if self.directions.register(direction, context.waker()) {
                continue;
            }
            let mut guard = ready!(self.edges.poll_read_ready(&mut Context::from_waker(&both)))?;
            // Later edges make the descriptor ready again.
            if self.take_edge()? {
                self.directions.record_edge();
            }
            guard.clear_ready();
        }
    }

    /// Takes an edge, if there is one.
    fn take_edge(&self) -> io::Result<bool> {
        let mut events = Vec::with_capacity(1);
        let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(self.edges.get_ref(), rustix::buffer::spare_capacity(&mut events), Some(&none))?;
        Ok(!events.is_empty())
    }
}

/// Reads from the host.
#[derive(Debug)]
pub(crate) struct PortReader {
    watched: Arc<Watched>,
    /// The host has sent data: from now on end of file means that the host has closed its end.
    received_any: bool,
}

impl AsyncRead for PortReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let received_any = self.received_any;
        // The unused rest of a large buffer would be zeroed again for each page.
        let space = buffer.initialize_unfilled_to(buffer.remaining().min(PORT_READ));
        let operation = |port: &OwnedFd| match retry_on_intr(|| rustix::io::read(port, &mut *space)) {
            Ok(0) if !received_any => Ok(None),
            Ok(read) => Ok(Some(read)),
            Err(errno) => retry(errno),
        };
        let read = ready!(self.watched.poll_until(Direction::Read, context, operation))?;
        buffer.advance(read);
        self.received_any = true;
        Poll::Ready(Ok(()))
    }
}

/// Writes to the host.
#[derive(Debug)]
pub(crate) struct PortWriter {
    watched: Arc<Watched>,
}

impl AsyncWrite for PortWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let operation = |port: &OwnedFd| match retry_on_intr(|| rustix::io::write(port, bytes)) {
            Ok(written) => Ok(Some(written)),
            Err(errno) => retry(errno),
        };
        self.watched.poll_until(Direction::Write, context, operation)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn retry<T>(errno: Errno) -> io::Result<Option<T>> {
    match errno {
        Errno::AGAIN => Ok(None),
        _ => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicU32);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Task {
        fn wake_count(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// A port, and the host's end of it.
    fn port() -> (PortReader, PortWriter, OwnedFd) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (ours, host) = pair.expect("a pair");
        let (reader, writer) = split(Arc::new(ours)).expect("watched");
        (reader, writer, host)
    }

    fn read(reader: &mut PortReader, task: &Arc<Task>) -> Poll<io::Result<usize>> {
        let waker = Waker::from(task.clone());
        let mut bytes = [0; 64];
        let mut buffer = ReadBuf::new(&mut bytes);
        let polled = Pin::new(reader).poll_read(&mut Context::from_waker(&waker), &mut buffer);
        polled.map_ok(|()| buffer.filled().len())
    }

    fn write(writer: &mut PortWriter, task: &Arc<Task>) -> Poll<io::Result<usize>> {
        let waker = Waker::from(task.clone());
        Pin::new(writer).poll_write(&mut Context::from_waker(&waker), &[0; 4096])
    }

    fn fill(writer: &mut PortWriter, task: &Arc<Task>) {
        while write(writer, task).is_ready() {}
    }

    /// Long enough for the runtime to see an edge.
    async fn wait_for_edges() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    #[tokio::test]
    async fn an_edge_wakes_both_directions() {
        for writer_first in [true, false] {
            let (mut reader, mut writer, host) = port();
            let (reading, writing) = <(Arc<Task>, Arc<Task>)>::default();
            // Consume the initial edge.
            fill(&mut writer, &writing);
            assert!(read(&mut reader, &reading).is_pending());
            wait_for_edges().await;
            assert!(write(&mut writer, &writing).is_pending() && read(&mut reader, &reading).is_pending());
            let before = (reading.wake_count(), writing.wake_count());

            while rustix::io::read(&host, &mut [0; 65536]).is_ok() {}
            rustix::io::write(&host, b"request").expect("written");
            wait_for_edges().await;
            assert!(reading.wake_count() > before.0, "the reader was not woken");
            assert!(writing.wake_count() > before.1, "the writer was not woken");
            if writer_first {
                fill(&mut writer, &writing);
            }
            assert!(matches!(read(&mut reader, &reading), Poll::Ready(Ok(7))));
            assert!(writer_first || write(&mut writer, &writing).is_ready());
        }
    }

    /// An edge that comes during an attempt permits another one.
    #[tokio::test]
    async fn an_edge_during_an_attempt_is_not_lost() {
        let (reader, _writer, _host) = port();
        let mut attempts = 0;
        let waker = Waker::from(Arc::<Task>::default());
        let polled = reader.watched.poll_until(Direction::Read, &mut Context::from_waker(&waker), |_| {
            attempts += 1;
            reader.watched.directions.record_edge();
            Ok((attempts == 3).then_some(()))
        });
        assert!(matches!(polled, Poll::Ready(Ok(()))));
        assert_eq!(attempts, 3);
    }

    /// Otherwise the next request would wait for an edge that does not come.
    #[tokio::test]
    async fn a_success_permits_the_next_attempt() {
        let (mut reader, _writer, host) = port();
        let task = Arc::default();
        rustix::io::write(&host, &[0; 128]).expect("written");
        assert!(matches!(read(&mut reader, &task), Poll::Ready(Ok(64))));
        assert!(matches!(read(&mut reader, &task), Poll::Ready(Ok(64))));
    }

    #[tokio::test]
    async fn one_epoll_watches_both_directions() {
        let (reader, writer, _host) = port();
        assert!(Arc::ptr_eq(&reader.watched, &writer.watched));
    }
}
