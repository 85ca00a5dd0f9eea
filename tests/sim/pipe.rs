//! One direction of a simulated connection, and the end of one that HTTP/2 reads and writes. What is written is on its way for a while;
//! what has arrived is read in order. An end whose process has died has no effect any more.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    ground::locked,
    net::{Net, Site},
};

/// What may be on its way in one direction of a connection.
const WINDOW_BYTES: usize = 64 * 1024;
/// What travels as one piece.
const PIECE_BYTES: usize = 4 * 1024;

/// One direction of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub from: Site,
    pub to: Site,
    /// Who has dialled.
    pub dialled: Site,
    /// Of those dialled by the one towards the other.
    pub number: u64,
}

/// One direction of a connection.
pub struct Pipe {
    pub name: Name,
    random: fastrand::Rng,
    /// On its way; an empty piece is the end.
    coming: VecDeque<(Instant, Bytes)>,
    /// The first of these is expected by the network.
    expected: bool,
    last_due: Instant,
    /// To be read.
    arrived: VecDeque<Bytes>,
    /// Written and not yet read.
    bytes: usize,
    flow: Flow,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Whether a pipe still brings something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// The end has arrived: after what there is to read comes nothing.
    Ended,
    /// After what there is to read comes an error, and nothing more is taken.
    Broken,
    /// The machine at an end has vanished, or has closed: what is written goes nowhere.
    Void,
}

/// One end of a connection.
pub struct End {
    net: Net,
    reads: Arc<Mutex<Pipe>>,
    writes: Arc<Mutex<Pipe>>,
    /// Who dialled or listens has died: whatever this end still does has no effect.
    dead: Arc<AtomicBool>,
}

impl Name {
    pub fn touches(&self, site: Site) -> bool {
        self.from == site || self.to == site
    }

    pub fn is_between(&self, one: Site, other: Site) -> bool {
        (self.from, self.to) == (one, other) || (self.from, self.to) == (other, one)
    }

    pub fn is_same_connection(&self, other: &Self) -> bool {
        (self.dialled, self.number) == (other.dialled, other.number) && self.is_between(other.from, other.to)
    }
}

impl Pipe {
    pub fn new(name: Name, random: fastrand::Rng) -> Self {
        Self {
            name,
            random,
            coming: VecDeque::new(),
            expected: false,
            last_due: Instant::now(),
            arrived: VecDeque::new(),
            bytes: 0,
            flow: Flow::Open,
            reader: None,
            writer: None,
        }
    }

    /// Whether nothing comes through it any more.
    pub fn is_over(&self) -> bool {
        self.flow != Flow::Open
    }

    pub fn is_void(&self) -> bool {
        self.flow == Flow::Void
    }

    /// When the next piece is due, where the network does not expect it already.
    pub fn next_due(&mut self) -> Option<Instant> {
        if self.expected {
            return None;
        }
        let due = self.coming.front().map(|(due, _)| *due);
        self.expected = due.is_some();
        due
    }

    /// The first piece is here, unless the way is cut; how long it is.
    pub fn arrive(&mut self, cut: bool) -> Option<usize> {
        self.expected = false;
        if cut {
            return None;
        }
        let (_, piece) = self.coming.pop_front()?;
        let length = piece.len();
        if piece.is_empty() {
            self.flow = Flow::Ended;
        } else {
            self.arrived.push_back(piece);
        }
        wake(&mut self.reader);
        Some(length)
    }

    /// Half of the next piece still arrives, and then an error.
    pub fn break_in_the_middle(&mut self) {
        if let Some((_, mut piece)) = self.coming.pop_front() {
            piece.truncate(piece.len() / 2);
            self.arrived.push_back(piece);
        }
        self.coming.clear();
        self.flow = Flow::Broken;
        self.wake();
    }

    pub fn break_whole(&mut self) {
        self.coming.clear();
        self.arrived.clear();
        self.flow = Flow::Broken;
        self.wake();
    }

    pub fn vanish(&mut self) {
        self.coming.clear();
        self.arrived.clear();
        self.bytes = 0;
        if self.flow != Flow::Broken {
            self.flow = Flow::Void;
        }
    }

    /// Puts a piece on its way.
    fn send(&mut self, piece: Bytes, net: &Net) {
        let due = self.last_due.max(Instant::now() + net.delay(&mut self.random));
        self.last_due = due;
        self.coming.push_back((due, piece));
    }

    fn wake(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

impl End {
    pub fn new(net: Net, reads: Arc<Mutex<Pipe>>, writes: Arc<Mutex<Pipe>>) -> Self {
        Self { net, reads, writes, dead: Arc::default() }
    }

    /// What decides whether this end still has an effect.
    pub fn belongs_to(&mut self, dead: &Arc<AtomicBool>) {
        self.dead = dead.clone();
    }

    /// The direction away from here.
    pub fn name(&self) -> Name {
        locked(&self.writes).name
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Says that nothing more comes.
    fn finish(&self) {
        {
            let mut writes = locked(&self.writes);
            if self.is_dead() || writes.is_over() {
                return;
            }
            writes.send(Bytes::new(), &self.net);
        }
        self.net.expect(&self.writes);
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_dead() {
            return Poll::Ready(Err(reset()));
        }
        let mut pipe = locked(&self.reads);
        let Some(piece) = pipe.arrived.front_mut() else {
            match pipe.flow {
                Flow::Broken => return Poll::Ready(Err(reset())),
                Flow::Ended => return Poll::Ready(Ok(())),
                Flow::Open | Flow::Void => {}
            }
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let length = piece.len().min(buffer.remaining());
        buffer.put_slice(&piece[..length]);
        piece.advance(length);
        if piece.is_empty() {
            pipe.arrived.pop_front();
        }
        pipe.bytes = pipe.bytes.saturating_sub(length);
        wake(&mut pipe.writer);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let length = bytes.len().min(PIECE_BYTES);
        {
            let mut pipe = locked(&self.writes);
            if self.is_dead() || matches!(pipe.flow, Flow::Broken | Flow::Ended) {
                return Poll::Ready(Err(reset()));
            }
            if WINDOW_BYTES <= pipe.bytes {
                pipe.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            pipe.bytes += length;
            if pipe.flow == Flow::Void || length == 0 {
                return Poll::Ready(Ok(length));
            }
            let piece = &bytes[..length];
            self.net.trace.say(format_args!("{} takes {length} {:x}", pipe.name, xxh3_64(piece)));
            pipe.send(Bytes::copy_from_slice(piece), &self.net);
        }
        self.net.expect(&self.writes);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.finish();
        if !self.is_dead() {
            locked(&self.reads).vanish();
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{} #{}.{}", self.from, self.to, self.dialled, self.number)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the connection was reset")
}
