//! Lines with aligned columns.

use std::borrow::Cow;

use prost_types::Timestamp;

use super::output::escaped;

/// What stands where there is no value.
pub(super) const NO_VALUE: &str = "-";

/// The rows, escaped, and each cell as wide as the widest of its column. No line ends in blanks.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let rows: Vec<[Cow<'_, str>; COLUMNS]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| escaped(cell)))
        .collect();
    let width = |cell: &str| cell.chars().count();
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths);
        let padded = cells.map(|(cell, width)| format!("{cell:<width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned()
    });
    lines.collect()
}

/// A time without its fraction.
pub(super) fn to_the_second(time: Timestamp) -> String {
    let whole = Timestamp { nanos: 0, ..time };
    whole.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_shown() {
        let rows = [["a\u{1b}\n", "b"], ["é", "c"]].map(|row| row.map(str::to_owned));
        let expected = ["a\\u{1b}\\u{a}  b", "é             c"];
        assert_eq!(aligned(&rows), expected);
    }
}
