//! The memory guard: past its mark the node admits nobody, instead of being killed with everyone.

use std::{fs, sync::Arc, time::Duration};

use crate::{config::Config, gateway::Gateway, telemetry::process::resident_bytes};

/// How often the process is measured.
const EVERY: Duration = Duration::from_secs(1);

/// Measures, and tells the gateway.
pub async fn watch(gateway: Arc<Gateway>) {
    let Some(mark) = mark(&gateway.config) else {
        return;
    };
    let mut over = false;
    let mut every = tokio::time::interval(EVERY);
    loop {
        every.tick().await;
        let Some(resident) = resident_bytes() else {
            return;
        };
        if over != (resident > mark) {
            over = resident > mark;
            tracing::warn!(resident, mark, over, "the memory mark was crossed");
            gateway.admission.set_over_memory(over);
        }
    }
}

/// How much the process may use before nobody is admitted, bytes; none: nothing says.
pub fn mark(config: &Config) -> Option<u64> {
    limit_bytes().map(|whole| config.limits.memory.of(whole))
}

/// What the container, else the machine, has.
fn limit_bytes() -> Option<u64> {
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    container.or_else(|| {
        let text = fs::read_to_string("/proc/meminfo").ok()?;
        let kib: u64 = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()?;
        Some(kib * 1024)
    })
}
