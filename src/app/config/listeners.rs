//! The addresses that a gateway listens at.

use std::net::SocketAddr;

use super::check::Check;

impl Check<'_> {
    /// Each port is bound once.
    pub(super) fn check_listeners(&mut self, listeners: [(&'static str, SocketAddr); 3]) {
        let flag = |key: &str| format!("--{}", key.replace('_', "-"));
        for (index, (key, address)) in listeners.iter().enumerate() {
            let others = listeners.iter().take(index);
            for (other, theirs) in others.filter(|(_, theirs)| is_taken(*address, *theirs)) {
                // The one of them that was written.
                let (key, address, other, theirs) = match self.settings.has(key) {
                    true => (key, address, other, theirs),
                    false => (other, theirs, key, address),
                };
                self.refuse(
                    key,
                    format!(
                        "{address} is taken by {} {theirs}: each listener needs a port of its own",
                        flag(other)
                    ),
                );
            }
        }
    }
}

/// Whether who listens at one address leaves nothing of the other.
fn is_taken(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |it: SocketAddr| it.ip().is_unspecified();
    let is_one_family = one.is_ipv4() == other.is_ipv4();
    let meets = one.ip() == other.ip() || is_one_family && (covers(one) || covers(other));
    // Port 0 is any that is free.
    one.port() == other.port() && one.port() != 0 && meets
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, Origin, Settings, check};

    fn refused(options: &[(&'static str, &str)]) -> Vec<String> {
        let mut settings = Settings {
            environment: Environment::LeftOut,
            ..Settings::default()
        };
        for (key, value) in options {
            settings.given.set(key, *value, Origin::Flag);
        }
        let problems = check(&settings).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn no_two_listeners_share_an_address() {
        let http = ("http_listen", "127.0.0.1:7001");
        for (admin, is_refused) in [
            ("127.0.0.1:7001", true),
            ("0.0.0.0:7001", true),
            ("127.0.0.1:7002", false),
            ("127.0.0.2:7001", false),
            ("[::1]:7001", false),
        ] {
            let keys = refused(&[http, ("admin_listen", admin)]);
            let expected: &[&str] = if is_refused { &["admin_listen"] } else { &[] };
            assert_eq!(keys, expected, "{admin}");
        }
        let any = "127.0.0.1:0";
        let free = [
            ("http_listen", any),
            ("grpc_listen", any),
            ("admin_listen", any),
        ];
        assert_eq!(refused(&free), [""; 0]);
        // The option that was written is named, and not the one whose default it is.
        let keys = refused(&[("http_listen", "127.0.0.1:50051")]);
        assert_eq!(keys, ["http_listen"]);
    }

    #[test]
    fn durations_that_no_clock_holds_are_refused() {
        let long = "500000000000y";
        for key in ["body_timeout", "drain_timeout", "retain_for"] {
            assert_eq!(refused(&[(key, long)]), [key]);
        }
    }
}
