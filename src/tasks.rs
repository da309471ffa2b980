//! The node's one set of background tasks.
//!
//! Owns every spawned task: each is supervised (a panic is logged and counted, and ends only
//! that task), stops when the node stops, and is waited for. Nothing else spawns.

use std::future::Future;

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A handle to the set; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    runtime: Handle,
    finish: CancellationToken,
    stop: CancellationToken,
}

impl Tasks {
    /// A set on the present runtime.
    pub fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            runtime: Handle::current(),
            finish: CancellationToken::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Runs a future that ends by itself soon after the node stops. May be called from any thread.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn_on(future, &self.runtime)
    }

    /// Runs a future until it ends or the node stops.
    pub fn spawn_until_stop<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = future => {}
            }
        });
    }

    /// Resolves when the node takes no more requests: those that were begun are to be answered.
    pub fn finishing(&self) -> impl Future<Output = ()> + Send + 'static {
        self.finish.clone().cancelled_owned()
    }

    /// Tells whoever takes requests to end with those that were begun.
    pub fn finish(&self) {
        self.finish.cancel();
    }

    /// Resolves when the node is told to stop.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }

    /// Whether the node was told to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells every task to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until every task has ended.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
