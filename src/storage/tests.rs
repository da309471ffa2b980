//! The contract suites on the embedded storage, and what only it owes: crashes, damage, reclaiming.

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;

use super::*;
use crate::config::Sync;
use crate::{
    broker::{
        Broker,
        contract::{Heard, Lab, broker_contract},
    },
    store::{
        CheckpointStore,
        contract::{Shelf, store_contract},
    },
};

/// One folder, opened at most once at a time.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: tempfile::TempDir,
    options: Options,
    opened: Mutex<Option<EmbeddedStorage>>,
}

impl Folder {
    pub(crate) fn new(sync: Sync) -> Self {
        Self::with(Options {
            sync,
            ..Options::default()
        })
    }

    pub(crate) fn with(options: Options) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            options,
            opened: Mutex::new(None),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn close(&self) {
        self.opened.lock().take();
    }

    /// One round of the keeper.
    pub(crate) fn keep(&self) {
        let opened = self.opened.lock();
        keeper::round(&opened.as_ref().unwrap().shared, &mut 0).unwrap();
    }

    /// Copies what is live in the oldest segment and leaves it there.
    pub(crate) fn copy_oldest(&self) {
        let opened = self.opened.lock();
        keeper::copy_oldest(&opened.as_ref().unwrap().shared);
    }

    /// Another folder with the files of this one as they are at this moment.
    pub(crate) fn image(&self) -> Self {
        let image = Self::with(self.options.clone());
        for entry in std::fs::read_dir(self.path()).unwrap() {
            let file = entry.unwrap();
            std::fs::copy(file.path(), image.path().join(file.file_name())).unwrap();
        }
        image
    }

    /// Makes the operating system refuse every write from here on.
    pub(crate) fn fail_writes(&self) {
        let opened = self.opened.lock();
        opened.as_ref().unwrap().shared.lock().journal.fail_writes();
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        let opened = self.opened.lock();
        opened.as_ref().unwrap().shared.lock().journal.total_bytes()
    }

    /// Closes the folder and opens it again.
    pub(crate) fn reopen(&self) -> (Arc<EmbeddedBroker>, Arc<EmbeddedStore>) {
        self.close();
        let opened = EmbeddedStorage::open(self.path(), self.options.clone()).unwrap();
        *self.opened.lock() = Some(opened.storage);
        (opened.broker, opened.store)
    }
}

impl Lab for Folder {
    async fn open(&self, announce: Arc<Heard>) -> Arc<dyn Broker> {
        let (broker, _) = self.reopen();
        broker.announce_to(announce);
        broker
    }
}

mod crash;
mod model;
mod reclaim;

impl Shelf for Folder {
    async fn open(&self) -> Arc<dyn CheckpointStore> {
        self.reopen().1
    }
}

mod at_interval {
    use super::*;
    store_contract!(Folder::new(Sync::Within(std::time::Duration::from_millis(
        5
    ))));
    broker_contract!(Folder::new(Sync::Within(std::time::Duration::from_millis(
        5
    ))));
}

mod always {
    use super::*;
    store_contract!(Folder::new(Sync::Always));
    broker_contract!(Folder::new(Sync::Always));
}
