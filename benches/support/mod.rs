//! What the benchmarks share.

#![allow(dead_code, reason = "each benchmark uses its part")]

pub(crate) mod bare;
pub(crate) mod clients;
pub(crate) mod memory_log;

/// One case: the same work done by Clerkcast and by the baseline, in turn.
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) ours: Vec<f64>,
    pub(crate) baseline: Vec<f64>,
}

impl Pair {
    /// Round by round.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        self.ours
            .iter()
            .zip(&self.baseline)
            .map(|(ours, base)| ours / base)
            .collect()
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Prints medians, and the ratios' spread.
pub(crate) fn table(title: &str, baseline: &str, pairs: &[Pair]) {
    println!("\n{title}\n");
    println!("| case | clerkcast | {baseline} | ratio | spread |");
    println!("|-|-:|-:|-:|-|");
    for pair in pairs {
        let ratios = pair.ratios();
        let least = ratios.iter().copied().fold(f64::MAX, f64::min);
        let most = ratios.iter().copied().fold(f64::MIN, f64::max);
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {least:.2}–{most:.2} |",
            pair.name,
            median(&pair.ours),
            median(&pair.baseline),
            median(&ratios),
        );
    }
}
