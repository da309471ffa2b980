//! Figures of the process itself, read from `/proc` when metrics are asked for.
//!
//! Called by `Metrics::render`. What the system does not offer is left out.

use std::{fmt::Write, fs};

/// Clock ticks a second in `/proc`: the interface fixes it at 100 whatever the kernel's own.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the figures to a Prometheus text.
pub(super) fn render(text: &mut String) {
    let stat = Stat::read();
    let figures = [
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory",
            resident_bytes().map(|bytes| bytes as f64),
        ),
        (
            "process_cpu_seconds_total",
            "counter",
            "User and system time",
            stat.as_ref().map(|stat| stat.cpu_seconds),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start, Unix seconds",
            stat.and_then(|stat| stat.start_seconds()),
        ),
        (
            "process_open_fds",
            "gauge",
            "Open files and sockets",
            open_files(),
        ),
        ("process_max_fds", "gauge", "Most of them", max_files()),
    ];
    for (name, kind, help, figure) in figures {
        if let Some(figure) = figure {
            // Writing to a String cannot fail.
            let _infallible = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {figure}\n"
            );
        }
    }
}

/// Memory of the process that is in RAM, in bytes.
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// User and system time of the process, in seconds.
pub fn cpu_seconds() -> Option<f64> {
    Stat::read().map(|stat| stat.cpu_seconds)
}

struct Stat {
    cpu_seconds: f64,
    start_after_boot: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name before the last parenthesis may hold anything; fields are counted after it.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
            start_after_boot: ticks(19)? / TICKS_PER_SECOND,
        })
    }

    fn start_seconds(&self) -> Option<f64> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
        Some(boot.trim().parse::<f64>().ok()? + self.start_after_boot)
    }
}

fn open_files() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    u32::try_from(count).ok().map(f64::from)
}

pub fn max_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_this_process_are_plausible() {
        let mut text = String::new();
        render(&mut text);
        let figure = |name: &str| -> f64 {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap().parse().unwrap()
        };
        assert!(figure("process_resident_memory_bytes") > 1e6);
        assert!(figure("process_open_fds") >= 3.0);
        assert!(figure("process_max_fds") >= figure("process_open_fds"));
        assert!(figure("process_cpu_seconds_total") >= 0.0);
        let now = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_secs_f64();
        assert!((now - figure("process_start_time_seconds")).abs() < 86_400.0);
    }
}
