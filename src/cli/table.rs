//! Lines with aligned columns.

use prost_types::Timestamp;

/// What stands where there is no value.
pub(super) const NO_VALUE: &str = "-";

/// The rows, each cell as wide as the widest of its column. No line ends in blanks.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let width = |cell: &String| cell.chars().count();
    let mut widths = [0; COLUMNS];
    for row in rows {
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

/// The text with each control character, which a terminal would obey, as `?`.
pub(super) fn printable(text: &str) -> String {
    let shown = text.chars();
    shown
        .map(|character| {
            if character.is_control() {
                '?'
            } else {
                character
            }
        })
        .collect()
}
