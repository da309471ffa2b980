//! Why a folder could not be opened. Every message names the file and what to do.

use std::{io, path::PathBuf};

/// Why a journal's folder was refused; the folder is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the folder open.
    #[error(
        "{dir} is in use by another node; stop it, or give this one a data_dir of its own",
        dir = .0.display()
    )]
    Locked(PathBuf),
    /// A file that no version of Tidewire wrote.
    #[error(
        "{file} is not a file of Tidewire's storage; move it away, or choose another data_dir",
        file = .0.display()
    )]
    Foreign(PathBuf),
    /// The folder was written by another version.
    #[error(
        "{file} has storage format {found}, this version reads {known}; start the version that \
         wrote it, or choose an empty data_dir",
        file = .file.display()
    )]
    Version {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this version.
        known: u32,
    },
    /// Bytes that had reached the disk are not what was written.
    #[error(
        "{file} is damaged at byte {at}: restore the folder from a backup, or move it away and \
         start empty",
        file = .file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Offset of the first byte that cannot be read as it was written.
        at: u64,
    },
    /// A file is missing between two others.
    #[error(
        "{file} is missing: restore the folder from a backup, or move it away and start empty",
        file = .0.display()
    )]
    Missing(PathBuf),
    /// A setting that cannot work.
    #[error("storage.segment_bytes must be between 64 KiB and 1 GiB")]
    SegmentBytes,
    /// The operating system refused.
    #[error("{file} cannot be opened", file = .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(file: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { file, source }
    }
}

/// The journal failed to write or to sync; it takes nothing more until the process restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the storage failed and takes nothing more until a restart")]
pub(crate) struct Failed;
