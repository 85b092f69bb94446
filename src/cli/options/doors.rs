//! The options about what callers without credentials may use.

use std::ffi::OsStr;

use super::check::Check;
use super::declaration::{self, Declaration, option, options};
use super::value::{Value, read_text};
use crate::app::DoorConfig;
use crate::doors::grpc::Exposure;

options! {
    /// What callers without credentials may use.
    DoorOptions {
        30 grpc_allow_anonymous: bool = option(
            "BOOL",
            "Allow callers without credentials to subscribe, even if principals are configured or subscribers connect from other machines",
        );
        40 grpc_open: OpenServices = option(
            "LIST",
            "Services open to callers without credentials: `health`, `reflection`, both separated by a comma, or `none`",
        ).with_default("health,reflection");
    }
}

impl DoorOptions {
    pub(super) fn config(self) -> DoorConfig {
        let default = DoorConfig::default();
        let open = self.grpc_open.unwrap_or(OpenServices {
            health: default.health,
            reflection: default.reflection,
        });
        DoorConfig {
            health: open.health,
            reflection: open.reflection,
            allows_anonymous: self
                .grpc_allow_anonymous
                .unwrap_or(default.allows_anonymous),
        }
    }
}

/// Which services are open to callers without credentials.
pub(super) struct OpenServices {
    health: Exposure,
    reflection: Exposure,
}

impl Value for OpenServices {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, Self::parse)
    }
}

impl OpenServices {
    fn parse(text: &str) -> Result<Self, String> {
        let mut open = Self {
            health: Exposure::Authenticated,
            reflection: Exposure::Authenticated,
        };
        if text == "none" {
            return Ok(open);
        }
        for name in text.split(',').map(str::trim) {
            match name {
                "health" => open.health = Exposure::Public,
                "reflection" => open.reflection = Exposure::Public,
                _ => {
                    return Err(format!(
                        "{name:?} is not one of `health`, `reflection` and `none`, which --grpc-open takes"
                    ));
                }
            }
        }
        Ok(open)
    }
}
