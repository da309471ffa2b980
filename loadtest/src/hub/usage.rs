//! What a process costs, as `/proc` says.
//!
//! Read by the sampler for nodes, Redis and the tool itself. It never starts or signals anything.

use std::fs;

/// Clock ticks of `/proc/<pid>/stat` in a second; the kernel's interface fixes it.
const TICKS: f64 = 100.0;

/// Memory and CPU of a process, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Resident bytes.
    pub resident: u64,
    /// CPU seconds, user and system, since it began.
    pub cpu_seconds: f64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.resident += other.resident;
        self.cpu_seconds += other.cpu_seconds;
    }
}

/// Of this process; none if it is gone.
pub fn of(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; what follows it does not.
    let (_name, fields) = stat.rsplit_once(')')?;
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok());
    Some(Usage {
        resident: resident.and_then(|kib| kib.parse::<u64>().ok())? * 1024,
        cpu_seconds: ticks.sum::<f64>() / TICKS,
    })
}

/// Of the tool.
pub fn own() -> Usage {
    of(std::process::id()).unwrap_or_default()
}
