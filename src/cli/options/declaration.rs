//! The declaration of an option, and `options!`, which declares a component's.

use crate::app::file::Kind;

/// An option. `http_listen` is the key in the file, `--http-listen` the flag and
/// `CLERKCAST_HTTP_LISTEN` the variable.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// Its key.
    pub key: &'static str,
    /// Its flag, without the dashes.
    pub flag: &'static str,
    /// Its environment variable.
    pub variable: &'static str,
    /// Its heading in the help.
    pub group: &'static str,
    /// Where it stands below the heading; smaller numbers come first.
    pub order: usize,
    /// The type of a value.
    pub kind: Kind,
    /// The name of a value in the help.
    pub value_name: &'static str,
    /// Its default, as the help shows it; empty if it has none. The value itself
    /// stands in the component's `Config::default()`.
    pub default: &'static str,
    /// What SIGHUP does about it.
    pub at_reload: AtReload,
    /// Where it can be set.
    pub place: OptionPlace,
    /// Its help. The default stands at the end of the first line.
    pub help: &'static str,
}

/// What SIGHUP does about an option that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtReload {
    /// Takes it up.
    TakenUp,
    /// Takes it up where the log is the embedded one.
    TakenUpByEmbeddedLog,
    /// Takes it up while the port speaks TLS before and after.
    TakenUpByTls,
    /// Reports that it needs a restart.
    NeedsRestart,
}

/// Where an option can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionPlace {
    /// As a flag, a variable and a key of the file; also of `copy`.
    EverywhereAndCopy,
    /// As a flag, a variable and a key of the file.
    Everywhere,
    /// As a flag and a variable.
    NotInFile,
    /// As a flag; its variables have names of their own.
    FlagOnly,
}

impl Declaration {
    /// Whether it can be a key of the file.
    #[must_use]
    pub const fn is_in_file(&self) -> bool {
        matches!(
            self.place,
            OptionPlace::Everywhere | OptionPlace::EverywhereAndCopy
        )
    }

    pub(super) const fn with_default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    pub(super) const fn at_reload(self, at_reload: AtReload) -> Self {
        Self { at_reload, ..self }
    }

    pub(super) const fn in_place(self, place: OptionPlace) -> Self {
        Self { place, ..self }
    }
}

/// An option without its names, which `options!` adds.
pub(super) const fn option(value_name: &'static str, help: &'static str) -> Declaration {
    Declaration {
        key: "",
        flag: "",
        variable: "",
        group: "",
        order: 0,
        kind: Kind::Text,
        value_name,
        default: "",
        at_reload: AtReload::NeedsRestart,
        place: OptionPlace::Everywhere,
        help,
    }
}

/// Prefix of each variable.
pub(super) const VARIABLE_PREFIX: &str = "CLERKCAST_";

/// The bytes of a key's flag.
pub(super) const fn flag_of<const LENGTH: usize>(key: &str) -> [u8; LENGTH] {
    let mut flag = [b'-'; LENGTH];
    let mut at = 0;
    while at < LENGTH {
        if key.as_bytes()[at] != b'_' {
            flag[at] = key.as_bytes()[at];
        }
        at += 1;
    }
    flag
}

/// The bytes of a key's variable.
pub(super) const fn variable_of<const LENGTH: usize>(key: &str) -> [u8; LENGTH] {
    let prefix = VARIABLE_PREFIX.as_bytes();
    let mut variable = [0; LENGTH];
    let mut at = 0;
    while at < LENGTH {
        variable[at] = if at < prefix.len() {
            prefix[at]
        } else {
            key.as_bytes()[at - prefix.len()].to_ascii_uppercase()
        };
        at += 1;
    }
    variable
}

/// The text of bytes that were made of a key.
pub(super) const fn text_of(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("a key is ASCII"),
    }
}

/// Declares the options of a component, each once: its place in the help, its key, the type
/// of its value and its [`Declaration`]. Writes the struct of their values, all of them
/// optional, and `KEYS`.
macro_rules! options {
    (
        $(#[$doc:meta])*
        $name:ident { $($order:literal $key:ident: $type:ty = $declaration:expr;)* }
    ) => {
        $(#[$doc])*
        pub(super) struct $name {
            $(pub(super) $key: Option<$type>,)*
        }

        impl $name {
            /// The component's options by key.
            pub(super) const KEYS: &'static [Declaration] = &[$({
                const KEY: &str = stringify!($key);
                const FLAG: [u8; KEY.len()] = declaration::flag_of(KEY);
                const VARIABLE: [u8; KEY.len() + declaration::VARIABLE_PREFIX.len()] =
                    declaration::variable_of(KEY);
                Declaration {
                    key: KEY,
                    flag: declaration::text_of(&FLAG),
                    variable: declaration::text_of(&VARIABLE),
                    order: $order,
                    kind: <$type as Value>::KIND,
                    ..$declaration
                }
            },)*];

            /// Reads the values that are set. Reports the invalid ones, and leaves them out.
            pub(super) fn read(check: &mut Check<'_>) -> Self {
                Self {
                    $($key: check.value(stringify!($key)),)*
                }
            }
        }
    };
}

pub(super) use options;
