//! Embedded storage: one folder with one journal that carries the broker and the session store of
//! a node that runs alone. Called by `node`, which opens it and hands the two seams out; never
//! knows what a publication or a session means.

mod keeper;
mod options;
mod shared;
mod sync;
#[cfg(test)]
mod tests;

use std::{io, path::Path, sync::Arc, thread::JoinHandle};

pub(crate) use options::{Clock, Options};
pub(crate) use shared::{Event, Shared, State};

use crate::{
    broker::embedded::{Channels, ChannelsReplay, EmbeddedBroker},
    journal::{Journal, OpenError, Recovery},
    store::embedded::{EmbeddedStore, Sessions},
};

/// An opened folder: the two seams on it, and what closes it.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Closes the folder when it is dropped.
    pub storage: EmbeddedStorage,
    /// Seam 1.
    pub broker: Arc<EmbeddedBroker>,
    /// Seam 2.
    pub store: Arc<EmbeddedStore>,
    /// What opening took.
    pub recovery: Recovery,
}

/// The open folder. Dropping it ends its threads, syncs and frees the folder; from then on both
/// seams answer `Unavailable`.
#[derive(Debug)]
pub(crate) struct EmbeddedStorage {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl EmbeddedStorage {
    /// Opens the folder, makes it where it does not exist, and replays what it holds. The folder
    /// belongs to the storage alone: a file of another kind in it is refused.
    ///
    /// # Errors
    /// Names the file and what to do; the folder is as it was.
    pub(crate) fn open(dir: &Path, options: Options) -> Result<Opened, OpenError> {
        let now = (options.clock.0)();
        let mut channels = ChannelsReplay::new(now);
        let mut sessions = Sessions::default();
        let (mut journal, recovery) =
            Journal::open(dir, options.segment_bytes, &mut |place, record| {
                channels.apply(place, record);
                sessions.apply(place, record);
            })?;
        if recovery.cut > 0 {
            tracing::info!(bytes = recovery.cut, "cut the torn end of the log off");
        }
        let failed = |source| OpenError::Io {
            file: dir.to_owned(),
            source,
        };
        let mut channels = channels.finish(&mut journal).map_err(failed)?;
        if options.is_restored {
            renew(&mut channels, &mut journal).map_err(failed)?;
        }
        sessions.finish(&mut journal, now);
        let state = State {
            journal,
            channels,
            sessions,
            waiting: Vec::new(),
            announce: None,
        };
        let shared = Arc::new(Shared::new(state, &options));
        let mut storage = Self {
            shared: shared.clone(),
            threads: Vec::new(),
        };
        storage.start(dir, "storage-sync", sync::run)?;
        storage.start(dir, "storage-keeper", keeper::run)?;
        Ok(Opened {
            broker: Arc::new(EmbeddedBroker::new(shared.clone())),
            store: Arc::new(EmbeddedStore::new(shared)),
            storage,
            recovery,
        })
    }

    fn start(
        &mut self,
        dir: &Path,
        name: &str,
        run: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<(), OpenError> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&shared))
            .map_err(|source| OpenError::Io {
                file: dir.to_owned(),
                source,
            })?;
        self.threads.push(thread);
        Ok(())
    }
}

/// Begins another epoch everywhere and brings that to the disk before anybody is told of one.
fn renew(channels: &mut Channels, journal: &mut Journal) -> io::Result<()> {
    channels.renew_epochs(journal)?;
    let job = journal.begin_sync();
    job.run()?;
    journal.end_sync(&job);
    Ok(())
}

impl Drop for EmbeddedStorage {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the storage panicked");
            }
        }
        self.shared.close();
    }
}
