//! A socket in memory, for tests in virtual time: what the node writes waits here until the far
//! end takes it, at most as much as the pipe holds. Nothing in it takes time by itself.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// One connection's bytes, both ways.
#[derive(Debug)]
pub struct Pipe {
    state: Mutex<State>,
    /// Told when the far end took bytes, or the pipe broke.
    room: Notify,
    /// Told when the node wrote bytes, or closed its side.
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    to_node: Vec<u8>,
    to_client: Vec<u8>,
    holds: usize,
    /// The node said that nothing follows.
    shut: bool,
    /// The far end is gone.
    broken: bool,
    /// The node's process stands still: it reads nothing.
    held: bool,
    reader: Option<Waker>,
}

/// The half the node writes to. Once the node let go of it, nothing follows.
#[derive(Debug)]
pub(super) struct WriteHalf(pub(super) Arc<Pipe>);

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}

impl Pipe {
    /// A pipe that holds this many bytes the far end did not take.
    pub fn new(holds: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                holds,
                ..State::default()
            }),
            room: Notify::new(),
            arrived: Notify::new(),
        })
    }

    pub(super) fn poll_read(
        &self,
        context: &Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state.lock();
        if state.held || (state.to_node.is_empty() && !state.broken) {
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = buffer.len().min(state.to_node.len());
        buffer[..count].copy_from_slice(&state.to_node[..count]);
        state.to_node.drain(..count);
        Poll::Ready(Ok(count))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        if state.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(state.holds - state.to_client.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.to_client.extend_from_slice(&bytes[..count]);
        self.arrived.notify_one();
        Ok(count)
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        loop {
            {
                let state = self.state.lock();
                if state.broken {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                if state.to_client.len() < state.holds {
                    return Ok(());
                }
            }
            self.room.notified().await;
        }
    }

    pub(super) fn shut_down(&self) {
        self.state.lock().shut = true;
        self.arrived.notify_one();
    }

    /// The node's process stands still, or goes on.
    pub fn hold(&self, held: bool) {
        let mut state = self.state.lock();
        state.held = held;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// The far end writes.
    pub fn send(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.to_node.extend_from_slice(bytes);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// Waits until there are bytes for the far end, or none will come. Cancel-safe.
    pub async fn arrived(&self) {
        loop {
            {
                let state = self.state.lock();
                if !state.to_client.is_empty() || state.shut || state.broken {
                    return;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// The far end takes at most this many bytes. None: none will come.
    pub fn take(&self, bytes_max: usize) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        if state.to_client.is_empty() && (state.shut || state.broken) {
            return None;
        }
        let count = bytes_max.min(state.to_client.len());
        let left = state.to_client.split_off(count);
        let taken = std::mem::replace(&mut state.to_client, left);
        self.room.notify_waiters();
        self.room.notify_one();
        Some(taken)
    }

    /// The connection is lost, for both ends and at once.
    pub fn break_off(&self) {
        let mut state = self.state.lock();
        state.broken = true;
        state.to_node.clear();
        state.to_client.clear();
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        drop(state);
        self.room.notify_waiters();
        self.room.notify_one();
        self.arrived.notify_one();
    }
}
