//! The process as the kernel sees it, read from `/proc/self` at each scrape.
//!
//! The metrics have the names that Prometheus' own libraries give them, without a prefix.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::event::numbers::saturating;

/// Registers the metrics in a registry that has no prefix. A system without `/proc` shows none.
pub fn register_process(registry: &mut Registry) {
    registry.register_collector(Box::new(ProcessCollector {
        boot_seconds: boot_seconds(),
    }));
}

#[derive(Debug)]
struct ProcessCollector {
    /// When the system started, in Unix time.
    boot_seconds: Option<u64>,
}

/// What `/proc/self/stat` has of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// In user and kernel mode.
    cpu_ticks: u64,
    threads: u64,
    /// After the start of the system.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// Reads the line. The name of the program stands in parentheses, and may itself contain
    /// parentheses.
    fn parse(line: &str) -> Option<Self> {
        let (_, fields) = line.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // proc(5) counts from 1, and the first field here is its third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn boot_seconds() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    boot.trim().parse().ok()
}

/// Without the one that reads the directory.
fn open_descriptors() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?;
    Some(saturating::<u64>(entries.count()).saturating_sub(1))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "ticks and seconds are far below 2^53"
)]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / clock_ticks_per_second() as f64
}

fn gauge<N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: Option<N>,
) -> fmt::Result {
    let Some(value) = value else {
        return Ok(());
    };
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let line = fs::read_to_string("/proc/self/stat").ok();
        let Some(stat) = line.as_deref().and_then(Stat::parse) else {
            return Ok(());
        };
        let counter = encoder.encode_descriptor(
            "process_cpu_seconds",
            "Time of the processors that the process used, in user and kernel mode.",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(seconds(stat.cpu_ticks)).encode(counter)?;
        let resident = stat.resident_pages.saturating_mul(saturating(page_size()));
        gauge(
            encoder,
            "process_resident_memory_bytes",
            "Memory that the process occupies.",
            Some(resident),
        )?;
        gauge(
            encoder,
            "process_virtual_memory_bytes",
            "Address space that the process has.",
            Some(stat.virtual_bytes),
        )?;
        gauge(
            encoder,
            "process_open_fds",
            "File descriptors that are open.",
            open_descriptors(),
        )?;
        gauge(
            encoder,
            "process_max_fds",
            "File descriptors that may be open; absent without a limit.",
            getrlimit(Resource::Nofile).current,
        )?;
        gauge(
            encoder,
            "process_threads",
            "Threads of the process.",
            Some(stat.threads),
        )?;
        gauge(
            encoder,
            "process_start_time_seconds",
            "When the process started, in Unix time.",
            self.boot_seconds
                .map(|boot| seconds(boot * clock_ticks_per_second() + stat.start_ticks)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_any_name_is_read() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 140 15 16 17 18 19 12 21 2200 2300 24 25";
        let expected = Stat {
            cpu_ticks: 155,
            threads: 12,
            start_ticks: 2200,
            virtual_bytes: 2300,
            resident_pages: 24,
        };
        for name in ["clerkcast", "a b", "x) S 1 (", ""] {
            let line = format!("42 ({name}) {fields}\n");
            assert_eq!(Stat::parse(&line), Some(expected), "{name}");
        }
        for line in ["", "42 (clerkcast) S 1 2", "42 clerkcast S"] {
            assert_eq!(Stat::parse(line), None, "{line}");
        }
    }
}
