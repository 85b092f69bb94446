//! What a command writes to standard output and to standard error.
//!
//! Texts of others (events, gateways, workers, files) may hold what a terminal obeys or what
//! hides or reorders a text. It is escaped here, and only here: every line of a command is a
//! [`Printable`].

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::ops::ControlFlow;

use super::failure::Failure;
use crate::event::is_unprintable;

/// A line that a terminal shows and does not obey.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Printable(String);

impl Printable {
    /// A line of JSON, whose value stays the same.
    pub(super) fn json(json: &str) -> Self {
        Self(rewritten(json, json_escape).into_owned())
    }

    pub(super) fn push(&mut self, text: &str) {
        self.0.push_str(&escaped(text));
    }

    /// Adds a text in a style of ours, which is the number of an SGR sequence.
    pub(super) fn push_styled(&mut self, style: &str, text: &str) {
        let _never_fails = write!(self.0, "\x1b[{style}m{}\x1b[0m", escaped(text));
    }

    /// The line with this many blanks before it.
    pub(super) fn indented(self, columns: usize) -> Self {
        Self(format!("{:columns$}{}", "", self.0))
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl From<&str> for Printable {
    fn from(text: &str) -> Self {
        Self(escaped(text).into_owned())
    }
}

impl From<String> for Printable {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<serde_json::Value> for Printable {
    fn from(value: serde_json::Value) -> Self {
        Self::json(&value.to_string())
    }
}

/// The text on one line, with each [unprintable](is_unprintable) character as `\u{…}`.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    rewritten(text, |character, shown| {
        let _never_fails = write!(shown, "\\u{{{:x}}}", u32::from(character));
    })
}

/// In JSON these characters stand in strings only, and C0 is escaped there already, except for
/// white space between values.
fn json_escape(character: char, shown: &mut String) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        let _never_fails = write!(shown, "\\u{unit:04x}");
    }
}

fn rewritten(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 32);
    for character in text.chars() {
        if is_unprintable(character) {
            escape(character, &mut shown);
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Prints a line to standard output.
pub(super) fn print_line(line: impl Into<Printable>) -> Result<(), Failure> {
    print_lines([line])
}

/// Prints lines to standard output. Without a process that reads them, they are lost.
pub(super) fn print_lines(
    lines: impl IntoIterator<Item = impl Into<Printable>>,
) -> Result<(), Failure> {
    print_while_read(lines).map(|_| ())
}

/// Prints lines to standard output at once; [`ControlFlow::Break`] if no process reads it any
/// more.
pub(super) fn print_while_read(
    lines: impl IntoIterator<Item = impl Into<Printable>>,
) -> Result<ControlFlow<()>, Failure> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.into().0);
        text.push('\n');
    }
    written(text.as_bytes())
}

/// Prints a text of ours as it is.
pub(super) fn print_own(text: &[u8]) -> Result<(), Failure> {
    written(text).map(|_| ())
}

/// Prints to standard output in another way.
pub(super) fn printed(print: impl FnOnce() -> io::Result<()>) -> Result<(), Failure> {
    let flushed = || io::stdout().flush();
    outcome(print().and_then(|()| flushed())).map(|_| ())
}

fn written(text: &[u8]) -> Result<ControlFlow<()>, Failure> {
    let mut out = io::stdout().lock();
    outcome(out.write_all(text).and_then(|()| out.flush()))
}

/// A reader that has closed its pipe has read enough.
fn outcome(written: io::Result<()>) -> Result<ControlFlow<()>, Failure> {
    match written {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Failure::Output(error)),
    }
}

/// Reports something besides the results, on standard error.
pub(super) fn note(text: impl Display) {
    report(format_args!("clerkcast: {text}"));
}

/// Reports a line on standard error without the name of the program.
pub(super) fn report(line: impl Display) {
    let mut line = Printable::from(line.to_string());
    line.0.push('\n');
    let _closed = io::stderr().write_all(line.0.as_bytes());
}

impl Display for Printable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each with a neighbor that is shown as it is.
    const UNPRINTABLE: &str = "\0\t\n\r\u{1b}\u{7f}\u{80}\u{9b}\u{9f}\u{61c}\u{200b}\u{200e}\u{200f}\
        \u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}\u{fff9}\u{e0041}";
    const OWN: &str = "a~\u{a0}é日本\u{200c}\u{200d}\u{2027}\u{202f}👩\u{200d}🚀\\";

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(escaped("a\u{1b}]0;b\u{7}\nc"), "a\\u{1b}]0;b\\u{7}\\u{a}c");
        assert_eq!(escaped("\u{9b}\u{202e}\u{7f}"), "\\u{9b}\\u{202e}\\u{7f}");
        let shown = escaped(UNPRINTABLE);
        assert!(
            shown.chars().all(|shown| shown.is_ascii_graphic()),
            "{shown}"
        );
        assert_eq!(shown.matches("\\u{").count(), UNPRINTABLE.chars().count());
        // A line is escaped once more where it is printed.
        assert_eq!(escaped(&shown), shown);
        assert!(matches!(escaped(OWN), Cow::Borrowed(OWN)));
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({UNPRINTABLE: [UNPRINTABLE, OWN, "\u{e0041}"]});
        let line = Printable::from(value.clone()).into_string();
        assert!(!line.contains(is_unprintable), "{line}");
        assert!(line.contains("\\u009b\\u009f\\u061c"), "{line}");
        assert!(
            line.contains("\\udb40\\udc41") && line.contains("日本"),
            "{line}"
        );
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read, value);
    }

    #[test]
    fn only_our_own_styles_reach_a_terminal() {
        let mut line = Printable::from("a\u{9b}");
        line.push_styled("2", "b\u{1b}[2J");
        line.push(" c\n");
        let expected = "a\\u{9b}\u{1b}[2mb\\u{1b}[2J\u{1b}[0m c\\u{a}";
        assert_eq!(line.into_string(), expected);
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is_one() {
        let closed = outcome(Err(io::ErrorKind::BrokenPipe.into()));
        assert!(closed.expect("quiet").is_break());
        assert!(outcome(Ok(())).expect("written").is_continue());
        let full = outcome(Err(io::ErrorKind::StorageFull.into()));
        let failure = full.expect_err("lost");
        assert_eq!(failure.exit_code(), 1);
        assert!(
            failure
                .to_string()
                .starts_with("cannot write to standard output: ")
        );
    }
}
