//! How the text of a flag, a variable or the file becomes an option's value.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;

use super::limit::Limit;
use super::period::Period;
use super::size::Size;
use crate::app::file::Kind;
use crate::telemetry::{Level, LogFormat};
use crate::webhook::Networks;

/// The value of an option.
pub(super) trait Value: Sized {
    /// Its type in the file.
    const KIND: Kind = Kind::Text;

    /// Reads the value, or returns what is wrong with the text.
    fn read(text: &OsStr) -> Result<Self, String>;
}

/// Reads a value whose text is UTF-8.
pub(super) fn read_text<T>(
    text: &OsStr,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, String> {
    parse(text.to_str().ok_or("it is not UTF-8")?)
}

impl Value for Size {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, str::parse)
    }
}

impl Value for Period {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, str::parse)
    }
}

impl Value for Limit<Size> {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, str::parse)
    }
}

impl Value for Limit<Period> {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, str::parse)
    }
}

impl Value for Level {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, str::parse)
    }
}

impl Value for LogFormat {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, |text| match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is not a format: write text or json")),
        })
    }
}

impl Value for Networks {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, |text| {
            text.parse().map_err(|error| format!("{error}"))
        })
    }
}

/// `127.0.0.1:8080`, `[::1]:8080`.
impl Value for SocketAddr {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, |text| {
            text.parse().map_err(|_| {
                format!("{text:?} is not an address: write IP:PORT, such as 127.0.0.1:8080")
            })
        })
    }
}

/// `10000`.
impl Value for usize {
    const KIND: Kind = Kind::Number;

    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, |text| {
            let number = text.trim().parse();
            number.map_err(|_| format!("{text:?} is not a whole number"))
        })
    }
}

/// `true`, `false`.
impl Value for bool {
    const KIND: Kind = Kind::Switch;

    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, |text| {
            let switch = text.trim().parse();
            switch.map_err(|_| format!("{text:?} is neither true nor false"))
        })
    }
}

impl Value for String {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, |text| Ok(text.to_owned()))
    }
}

impl Value for PathBuf {
    fn read(text: &OsStr) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

impl Value for OsString {
    fn read(text: &OsStr) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}
