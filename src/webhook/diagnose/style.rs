//! How serializers write JSON: white space, and what of a string they escape.

/// White space, as a serializer or editor puts it.
#[derive(Debug)]
pub(super) struct Layout {
    /// After "it verifies".
    pub(super) what: &'static str,
    pub(super) comma: &'static str,
    pub(super) colon: &'static str,
    /// For each level, on a line of its own.
    indent: Option<&'static str>,
    line_end: &'static str,
    pub(super) end: &'static str,
}

const fn on_one_line(what: &'static str, comma: &'static str, colon: &'static str) -> Layout {
    Layout {
        what,
        comma,
        colon,
        indent: None,
        line_end: "",
        end: "",
    }
}

const fn indented(indent: &'static str, line_end: &'static str, end: &'static str) -> Layout {
    Layout {
        what: "once it is indented",
        comma: ",",
        colon: ": ",
        indent: Some(indent),
        line_end,
        end,
    }
}

/// As most tools do.
pub(super) const INDENTED: Layout = indented("  ", "\n", "");

/// The likely ones first: Clerk's bodies have no white space.
pub(super) const LAYOUTS: &[Layout] = &[
    on_one_line("once the white space between its tokens is gone", ",", ":"),
    on_one_line("with a space after each comma and colon", ", ", ": "),
    on_one_line("with a space after each colon", ",", ": "),
    on_one_line("with a space after each comma", ", ", ":"),
    Layout {
        end: "\n",
        ..on_one_line("on one line that ends with a newline", ",", ":")
    },
    indented("  ", "\n", ""),
    indented("  ", "\n", "\n"),
    indented("    ", "\n", ""),
    indented("    ", "\n", "\n"),
    indented("\t", "\n", ""),
    indented("\t", "\n", "\n"),
    indented("  ", "\r\n", ""),
    indented("  ", "\r\n", "\r\n"),
    indented("    ", "\r\n", ""),
    indented(" ", "\n", ""),
];

impl Layout {
    pub(super) fn break_line(&self, depth: usize, out: &mut Vec<u8>) {
        let Some(indent) = self.indent else { return };
        out.extend_from_slice(self.line_end.as_bytes());
        for _ in 0..depth {
            out.extend_from_slice(indent.as_bytes());
        }
    }
}

/// What of a string is escaped.
#[derive(Debug)]
pub(super) struct Style {
    /// After "it verifies".
    pub(super) what: &'static str,
    /// The same, where the white space differs too.
    pub(super) what_with_layout: &'static str,
    /// What is not ASCII.
    non_ascii: bool,
    /// Further characters, as `\u003c`.
    others: &'static str,
    slash: bool,
    uppercase: bool,
}

macro_rules! style {
    ($what:literal, $non_ascii:literal, $others:literal, $slash:literal, $uppercase:literal) => {
        Style {
            what: $what,
            what_with_layout: concat!($what, " and other white space"),
            non_ascii: $non_ascii,
            others: $others,
            slash: $slash,
            uppercase: $uppercase,
        }
    };
}

/// The likely ones first.
pub(super) const STYLES: &[Style] = &[
    // JavaScript, Rust.
    style!(
        "once no more is escaped than must be",
        false,
        "",
        false,
        false
    ),
    // Go; Ruby on Rails.
    style!(
        "with `<`, `>` and `&` escaped",
        false,
        "<>&\u{2028}\u{2029}",
        false,
        false
    ),
    style!("with `<`, `>` and `&` escaped", false, "<>&", false, false),
    // Python; then PHP, with and without JSON_UNESCAPED_UNICODE.
    style!(
        "with all that is not ASCII escaped",
        true,
        "\u{7f}",
        false,
        false
    ),
    style!(
        "with slashes and all that is not ASCII escaped",
        true,
        "",
        true,
        false
    ),
    style!(
        "with slashes escaped",
        false,
        "\u{2028}\u{2029}",
        true,
        false
    ),
    style!("with slashes escaped", false, "", true, false),
    style!("with all that is not ASCII escaped", true, "", false, false),
    // Jackson, .NET and Gson.
    style!("with all that is not ASCII escaped", true, "", false, true),
    style!(
        "with all escaped that HTML knows",
        true,
        "<>&'+`\"\u{7f}",
        false,
        true
    ),
    style!(
        "with all escaped that HTML knows",
        false,
        "<>&='\u{2028}\u{2029}",
        false,
        false
    ),
    style!(
        "with `<`, `>`, `&` and all that is not ASCII escaped",
        true,
        "<>&",
        false,
        false
    ),
    style!(
        "with slashes, `<`, `>` and `&` escaped",
        false,
        "<>&\u{2028}\u{2029}",
        true,
        false
    ),
];

/// Whether serializers disagree on how to write a string with this byte in it.
pub(super) const fn is_disputed(byte: u8) -> bool {
    byte >= 0x7f
        || matches!(
            byte,
            b'\\' | b'/' | b'<' | b'>' | b'&' | b'=' | b'\'' | b'+' | b'`'
        )
}

/// The bytes that are written as they are by all.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte < 0x7f {
        plain[byte as usize] = byte != b'"' && !is_disputed(byte);
        byte += 1;
    }
    plain
};

/// The character that stands for all that are escaped like this one; none for those on which
/// all agree.
pub(super) fn class(character: char) -> Option<char> {
    match character {
        '\u{2028}' | '\u{2029}' | '\u{7f}' | '"' => Some(character),
        '\u{80}'.. => Some('\u{e9}'),
        // Its two letters show how hexadecimal digits are written.
        '\0'..' ' => Some('\u{1f}'),
        _ => u8::try_from(character)
            .is_ok_and(|byte| byte != b'\\' && is_disputed(byte))
            .then_some(character),
    }
}

impl Style {
    /// Writes a string with its quotes.
    pub(super) fn quote(&self, content: &str, out: &mut Vec<u8>) {
        out.push(b'"');
        let bytes = content.as_bytes();
        let mut written = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if PLAIN[usize::from(*byte)] || at < written {
                continue;
            }
            out.extend_from_slice(bytes.get(written..at).unwrap_or_default());
            let Some(character) = content.get(at..).and_then(|rest| rest.chars().next()) else {
                break;
            };
            self.write(character, out);
            written = at + character.len_utf8();
        }
        out.extend_from_slice(bytes.get(written..).unwrap_or_default());
        out.push(b'"');
    }

    fn write(&self, character: char, out: &mut Vec<u8>) {
        match character {
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\0'..' ' => self.escape(character, out),
            '\\' => out.extend_from_slice(b"\\\\"),
            '/' if self.slash => out.extend_from_slice(b"\\/"),
            '\u{80}'.. if self.non_ascii => self.escape(character, out),
            _ if self.others.contains(character) => self.escape(character, out),
            '"' => out.extend_from_slice(b"\\\""),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }

    fn escape(&self, character: char, out: &mut Vec<u8>) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.extend_from_slice(b"\\u");
            for shift in [12, 8, 4, 0] {
                let digit = char::from_digit(u32::from(*unit >> shift & 0xf), 16)
                    .and_then(|digit| u8::try_from(digit).ok())
                    .unwrap_or(b'0');
                out.push(if self.uppercase {
                    digit.to_ascii_uppercase()
                } else {
                    digit
                });
            }
        }
    }
}
