//! What the tables share.

pub(crate) mod bare;
pub(crate) mod clients;
pub(crate) mod disk_log;
pub(crate) mod jetstream;
#[path = "../../../tests/support/memory_log.rs"]
pub(crate) mod memory_log;
pub(crate) mod nats_server;
pub(crate) mod paced;
pub(crate) mod posts;
pub(crate) mod process;
pub(crate) mod records;
pub(crate) mod served;

/// One row: the same work done by Clerkcast and by the baseline, in turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours: Vec<f64>,
    pub(crate) baseline: Vec<f64>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Adds a round.
    pub(crate) fn push(&mut self, ours: f64, baseline: f64) {
        self.ours.push(ours);
        self.baseline.push(baseline);
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

pub(crate) fn percentile(values: &[f64], rank: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = (sorted.len() as f64 * rank) as usize;
    sorted[index.min(sorted.len() - 1)]
}

/// Prints a table: medians, and the ratios' median and spread.
pub(crate) fn table(title: &str, baseline: &str, rows: &[Row]) {
    println!("\n{title}\n");
    println!("| case | Clerkcast | {baseline} | ratio | spread |");
    println!("|-|-:|-:|-:|-|");
    for row in rows {
        let ratios = row.ours.iter().zip(&row.baseline);
        let ratios: Vec<f64> = ratios.map(|(ours, base)| ours / base).collect();
        println!(
            "| {} | {} | {} | {:.2} | {:.2}–{:.2} |",
            row.name,
            figure(median(&row.ours)),
            figure(median(&row.baseline)),
            median(&ratios),
            percentile(&ratios, 0.0),
            percentile(&ratios, 1.0),
        );
    }
}

/// Three significant digits, more for whole numbers.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Whether tables take the time that their longest rows need.
pub(crate) fn is_soak() -> bool {
    std::env::var_os("CLERKCAST_SOAK").is_some_and(|value| value == "1")
}

/// Events, frames or bytes, as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}
