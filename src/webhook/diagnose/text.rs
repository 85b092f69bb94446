//! What happens to a body as text: its ends and lines, its encoding, and what it is put into.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::json::Json;
use super::undone::{HintKind, Undone};

/// A body in base64 is at least as long.
const ENCODED_BYTES_MIN: usize = 8;
/// Values of an object that may be the body, the largest first.
const WRAPPED_MAX: usize = 8;

const EDITED: &str = "an editor, `echo` or a tool that saved the body changed it";
const DECODED: &str = "a component on the way read the body in another encoding, or never decoded it (isBase64Encoded of AWS, a Buffer that was printed)";
const WRAPPED: &str = "a proxy, function or queue wrapped the body: take the string inside, before anything parses it";

fn undone(kind: HintKind, what: &'static str, place: &'static str, body: Vec<u8>) -> Undone {
    Undone {
        kind,
        what,
        place,
        body,
    }
}

/// Ends and lines.
pub(super) fn layouts(body: &[u8]) -> impl Iterator<Item = Undone> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let unix = text.replace("\r\n", "\n");
    let all = [
        (
            "without the white space at the end",
            text.trim_end().to_owned(),
        ),
        ("with a newline at the end", format!("{text}\n")),
        ("with CRLF at the end", format!("{text}\r\n")),
        ("without the white space around it", text.trim().to_owned()),
        ("with CRLF instead of LF", unix.replace('\n', "\r\n")),
        ("with LF instead of CRLF", unix),
    ];
    let changed = all
        .into_iter()
        .filter(move |(_, other)| other.as_bytes() != body);
    changed.map(|(what, other)| undone(HintKind::Layout, what, EDITED, other.into_bytes()))
}

/// What HTML escapes.
pub(super) fn entities(body: &[u8]) -> Option<Undone> {
    let text = std::str::from_utf8(body)
        .ok()
        .filter(|text| text.contains('&'))?;
    let names = [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#x22;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&apos;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    let plain = names
        .iter()
        .fold(text.to_owned(), |text, (name, character)| {
            text.replace(name, character)
        });
    let place = "a template or a form escaped the body for HTML";
    (plain != text).then(|| {
        undone(
            HintKind::Escaping,
            "without HTML's escapes",
            place,
            plain.into(),
        )
    })
}

/// The text that the bytes stand for, if it is another one.
pub(super) fn encodings(body: &[u8]) -> Vec<Undone> {
    let text = std::str::from_utf8(body);
    let decodings = [
        (
            "once it is decoded from base64",
            text.ok().and_then(from_base64),
        ),
        (
            "once it is decoded from hexadecimal digits",
            text.ok().and_then(from_hex),
        ),
        (
            "once it is percent-decoded",
            text.ok().and_then(from_percent),
        ),
        (
            "without the byte-order mark",
            body.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec),
        ),
        ("once it is read as UTF-16", from_utf16(body)),
        (
            "once it is read as Latin-1",
            text.err().map(|_| from_latin_1(body, false)),
        ),
        (
            "once it is read as Windows-1252",
            text.err().map(|_| from_latin_1(body, true)),
        ),
        (
            "once it is UTF-8, which was read as Latin-1",
            text.ok().and_then(|text| to_latin_1(text, false)),
        ),
        (
            "once it is UTF-8, which was read as Windows-1252",
            text.ok().and_then(|text| to_latin_1(text, true)),
        ),
        (
            "as the bytes that its numbers are",
            text.ok()
                .and_then(Json::parse)
                .and_then(|json| json.as_bytes()),
        ),
    ];
    decodings
        .into_iter()
        .filter_map(|(what, body)| Some((what, body.filter(|body| !body.is_empty())?)))
        .map(|(what, body)| undone(HintKind::Encoding, what, DECODED, body))
        .collect()
}

/// What is inside of something else.
pub(super) fn wrappings(body: &[u8], json: Option<&Json<'_>>) -> Vec<Undone> {
    let wrapped =
        |what, inner: &str| undone(HintKind::Wrapping, what, WRAPPED, inner.as_bytes().to_vec());
    let mut found = Vec::new();
    if let Some(json) = json {
        let string = json.as_string();
        found.extend(string.map(|content| wrapped("as the content of the JSON string", content)));
        let values = json.largest_values(WRAPPED_MAX).into_iter();
        found.extend(values.map(|value| wrapped("as the value of one of its fields", value)));
        return found;
    }
    let text = std::str::from_utf8(body).unwrap_or_default().trim();
    for quote in ['\'', '"', '`'] {
        let inner = text
            .strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote));
        found.extend(inner.map(|inner| wrapped("without the quotes around it", inner)));
    }
    if let Some((_, value)) = text.split_once('=') {
        found.push(wrapped("as the value of a form's field", value));
    }
    found
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = match text.split_once(";base64,") {
        Some((scheme, data)) if scheme.starts_with("data:") => data,
        _ => text,
    };
    let lines: String = text.split_whitespace().collect();
    if lines.len() < ENCODED_BYTES_MIN {
        return None;
    }
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let mut alphabets = [&STANDARD, &URL_SAFE].into_iter();
    alphabets.find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(&lines).ok())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if text.len() < ENCODED_BYTES_MIN || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect()
}

/// As forms are encoded: a space is `+`.
fn from_percent(text: &str) -> Option<Vec<u8>> {
    if !text.contains("%22") || text.contains('"') {
        return None;
    }
    let mut bytes = text.trim().bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    Some(out)
}

fn from_utf16(body: &[u8]) -> Option<Vec<u8>> {
    let (is_big, units) = match body {
        [0xfe, 0xff, rest @ ..] => (true, rest),
        [0xff, 0xfe, rest @ ..] => (false, rest),
        [0, _, ..] => (true, body),
        [_, 0, ..] => (false, body),
        _ => return None,
    };
    let units = units.chunks_exact(2).map(|pair| match *pair {
        [high, low] if is_big => u16::from_be_bytes([high, low]),
        [low, high] => u16::from_le_bytes([low, high]),
        _ => 0,
    });
    let text: Option<String> = char::decode_utf16(units).map(Result::ok).collect();
    text.map(String::into_bytes)
}

fn from_latin_1(body: &[u8], is_windows: bool) -> Vec<u8> {
    let characters = body.iter().map(|byte| match windows_1252(*byte) {
        Some(character) if is_windows => character,
        _ => char::from(*byte),
    });
    characters.collect::<String>().into_bytes()
}

/// The bytes that the text's characters have in the charset, where they all have one and are
/// UTF-8 themselves.
fn to_latin_1(text: &str, is_windows: bool) -> Option<Vec<u8>> {
    if text.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = text
        .chars()
        .map(|character| {
            let of_windows = || (0x80..=0x9f).find(|byte| windows_1252(*byte) == Some(character));
            u8::try_from(character)
                .ok()
                .or_else(|| is_windows.then(of_windows).flatten())
        })
        .collect();
    bytes.filter(|bytes| std::str::from_utf8(bytes).is_ok())
}

/// Where Windows-1252 differs from Latin-1.
fn windows_1252(byte: u8) -> Option<char> {
    const DIFFERENT: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";
    DIFFERENT.chars().nth(usize::from(byte.checked_sub(0x80)?))
}
