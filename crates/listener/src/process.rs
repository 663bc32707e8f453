//! Metrics of the process itself, under the names that Prometheus' client libraries give them.

use std::fs;

use nix::sys::resource::{UsageWho, getrusage};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// Registers processor time, memory and open files, as they are now. What the kernel does not say is left out.
pub fn register(registry: &mut Registry) {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let [user, system] = [usage.user_time(), usage.system_time()].map(|time| {
            #[expect(clippy::cast_precision_loss, reason = "microseconds and seconds of a process's life")]
            let seconds = time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
            seconds
        });
        let spent = ConstCounter::new(user + system);
        registry.register_with_unit("process_cpu", "Processor time", Unit::Seconds, spent);
    }
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident) {
        registry.register_with_unit("process_resident_memory", "Memory", Unit::Bytes, ConstGauge::new(bytes));
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // One is that of the directory.
        let open = i64::try_from(files.count()).unwrap_or(i64::MAX) - 1;
        registry.register("process_open_fds", "Open files and sockets", ConstGauge::new(open));
    }
}

/// The resident memory in bytes, from the text of `/proc/PID/status`.
fn resident(status: &str) -> Option<i64> {
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(kib.parse::<i64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_names_and_units_of_prometheus() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a text");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect(name);
            line.parse::<f64>().expect("a number")
        };
        assert!(value("process_cpu_seconds_total") > 0.0);
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(resident("VmPeak:\t  9 kB\nVmRSS:\t    1524 kB\nRssAnon:\t 4 kB\n"), Some(1524 * 1024));
        assert_eq!(resident("Name:\tnetd\n"), None);
    }
}
