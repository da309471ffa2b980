//! What this machine allows a run: open files and memory, with the command that allows more.
//!
//! Asked before anything is started, so that a run fails with a remedy and not in the middle.

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files besides connections: storage, libraries, Redis, pipes.
const FILES_BESIDES: u64 = 300;

/// What a scenario needs.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Connections at once.
    pub connections: usize,
    /// Files this process opens for each: a client that can be cut holds its socket twice.
    pub files_each: usize,
    /// Bytes that nodes and tool need for each, roughly.
    pub bytes_each: usize,
    /// Nodes the connections are spread over.
    pub nodes: usize,
}

/// Raises the soft limit of open files to the hard one, for this process and those it starts, and
/// says what is not enough.
pub fn check(needs: Needs) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it may not be raised, the soft limit counts.
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_refused) => limit.current,
    };
    let connections = u64::try_from(needs.connections)?;
    let tool = connections * u64::try_from(needs.files_each)? + FILES_BESIDES;
    // After a kill the others take what one node had.
    let left = u64::try_from(needs.nodes.saturating_sub(1).max(1))?;
    let node = connections.div_ceil(left) + FILES_BESIDES;
    let files = tool.max(node);
    if let Some(current) = current.filter(|current| *current < files) {
        bail!(
            "{connections} connections need {files} open files in one process, and {current} are allowed.\n\
             Allow more:   ulimit -n {files}\n\
             or, where the hard limit forbids it:   sudo prlimit --pid $$ --nofile={files}:{files}\n\
             or ask for fewer connections."
        );
    }
    let bytes = connections * u64::try_from(needs.bytes_each)?;
    if let Some(available) = available_bytes().filter(|available| *available < bytes) {
        bail!(
            "{connections} connections need about {} MiB, and {} MiB are available.\n\
             See what holds memory:   ps aux --sort=-rss | head\n\
             or ask for fewer connections.",
            bytes >> 20,
            available >> 20
        );
    }
    Ok(())
}

fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_told_with_the_command_that_allows_it() {
        let needs = |connections, bytes_each| Needs {
            connections,
            files_each: 1,
            bytes_each,
            nodes: 1,
        };
        assert!(check(needs(10, 1)).is_ok());
        let memory = check(needs(10, 1 << 50)).unwrap_err().to_string();
        assert!(memory.contains("MiB are available"), "{memory}");
        if getrlimit(Resource::Nofile).maximum.is_some() {
            let files = check(needs(usize::MAX >> 32, 0)).unwrap_err().to_string();
            assert!(files.contains("ulimit -n 4294967595"), "{files}");
        }
    }
}
