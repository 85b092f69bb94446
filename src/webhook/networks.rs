//! The networks that deliveries may come from.
//!
//! An allow-list does not authenticate (Svix, "Static source IPs"). It keeps other networks from
//! spending the gateway's time; the signature proves who wrote the body.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Each proxy on the way appends an address, so the right-most is the nearest.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// The name that stands for [`SVIX`].
const SVIX_NAME: &str = "svix";
/// The addresses that Svix delivers from, in all its regions (docs.svix.com/webhook-ips.json,
/// 2026-11).
const SVIX: [&str; 20] = [
    // us
    "44.228.126.217/32",
    "50.112.21.217/32",
    "52.24.126.164/32",
    "54.148.139.208/32",
    "2600:1f24:64:8000::/56",
    // us-east
    "54.164.207.221/32",
    "54.90.7.123/32",
    "2600:1f28:37:4000::/56",
    // eu
    "52.215.16.239/32",
    "54.216.8.72/32",
    "63.33.109.123/32",
    "2a05:d028:17:8000::/56",
    // au
    "13.239.204.236/32",
    "54.66.246.217/32",
    "54.252.65.96/32",
    "2406:da2c:13:4000::/56",
    // ca
    "52.60.44.49/32",
    "3.98.68.230/32",
    "3.96.105.27/32",
    "2600:1f21:1c:4000::/56",
];

/// A set of networks, such as `svix,10.0.0.0/8,2001:db8::1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// The error for a text that does not name a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither a network such as 203.0.113.0/24 or 2001:db8::/32, nor an address, nor `svix`"
)]
pub struct InvalidNetwork(String);

impl FromStr for Networks {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let mut networks = Vec::new();
        for item in text.split([',', ' ']).filter(|item| !item.is_empty()) {
            if item == SVIX_NAME {
                let svix = SVIX.iter().map(|network| network_of(network));
                networks.extend(svix.collect::<Result<Vec<_>, _>>()?);
            } else {
                networks.push(network_of(item)?);
            }
        }
        Ok(Self(networks))
    }
}

fn network_of(text: &str) -> Result<IpNet, InvalidNetwork> {
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| InvalidNetwork(text.to_owned()))
}

impl Networks {
    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The networks that may deliver, and the proxies whose `x-forwarded-for` is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList {
    /// The networks that may deliver.
    pub from: Networks,
    /// Reverse proxies. Where one of them connects, the client is the address that the proxy
    /// names in `x-forwarded-for`.
    pub trusted_proxies: Networks,
}

impl AllowList {
    /// Whether a request comes from an allowed network.
    pub(super) fn allows(&self, peer: SocketAddr, headers: &HeaderMap) -> bool {
        self.client(peer.ip(), headers)
            .is_some_and(|client| self.from.contains(client))
    }

    /// The nearest hop that is not a trusted proxy; none if that hop is not an address.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let mut client = peer;
        let values = headers.get_all(FORWARDED_FOR).into_iter().rev();
        let mut hops = values.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
        while self.trusted_proxies.contains(client) {
            let Some(hop) = hops.next() else { break };
            client = address_of(hop.trim())?;
        }
        Some(client)
    }
}

/// An address as proxies write it: IPv4 or IPv6, with or without a port, and IPv6 in
/// brackets or not. Anything else is not an address.
fn address_of(hop: &str) -> Option<IpAddr> {
    if let Some(bracketed) = hop.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']')?;
        let address = address.parse::<Ipv6Addr>().ok()?;
        let has_port = rest.strip_prefix(':').is_some_and(is_port);
        return (rest.is_empty() || has_port).then_some(address.into());
    }
    if let Ok(address) = hop.parse::<IpAddr>() {
        return Some(address);
    }
    let (address, port) = hop.split_once(':')?;
    let address = address.parse::<Ipv4Addr>().ok()?;
    is_port(port).then_some(address.into())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(from: &str, proxies: &str, peer: &str, forwarded: &[&str]) -> bool {
        let list = AllowList {
            from: from.parse().expect("networks"),
            trusted_proxies: proxies.parse().expect("networks"),
        };
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().expect("a header"));
        }
        list.allows(peer.parse().expect("an address"), &headers)
    }

    #[test]
    fn only_the_listed_networks_are_allowed() {
        assert!(allows("203.0.113.0/24", "", "203.0.113.9:1", &[]));
        assert!(!allows("203.0.113.0/24", "", "203.0.114.9:1", &[]));
        assert!(allows("203.0.113.0/24", "", "[::ffff:203.0.113.9]:1", &[]));
        assert!(allows("svix", "", "52.215.16.239:1", &[]));
        assert!(allows("svix", "", "[2600:1f24:64:8000::1]:1", &[]));
        assert!(!allows("svix", "", "52.215.16.240:1", &[]));
        assert!(!allows("svix", "", "127.0.0.1:1", &[]));
    }

    #[test]
    fn only_a_trusted_proxy_names_the_client_address() {
        let svix = "52.215.16.239";
        assert!(!allows("svix", "", "198.51.100.1:1", &[svix]));
        assert!(allows("svix", "10.0.0.0/8", "10.1.1.1:1", &[svix]));
        assert!(allows(
            "svix",
            "10.0.0.0/8",
            "10.1.1.1:1",
            &["1.1.1.1", &format!("{svix}, 10.2.2.2")]
        ));
        assert!(allows(
            "svix",
            "10.0.0.0/8",
            "10.1.1.1:1",
            &[&format!("{svix}:4711")]
        ));
        // What the client itself wrote stands to the left of what the proxy saw.
        assert!(!allows(
            "svix",
            "10.0.0.0/8",
            "10.1.1.1:1",
            &[&format!("{svix}, 198.51.100.1")]
        ));
        assert!(!allows("svix", "10.0.0.0/8", "10.1.1.1:1", &["unknown"]));
        assert!(!allows("svix", "10.0.0.0/8", "10.1.1.1:1", &[]));
    }

    #[test]
    fn forwarded_addresses_in_every_form() {
        let by_proxy = |hop: &str| {
            allows(
                "203.0.113.9,2001:db8::1",
                "10.0.0.0/8",
                "10.1.1.1:1",
                &[hop],
            )
        };
        for hop in [
            "203.0.113.9",
            "203.0.113.9:4711",
            "::ffff:203.0.113.9",
            "[::ffff:203.0.113.9]",
            "[::ffff:203.0.113.9]:4711",
            "2001:db8::1",
            "2001:DB8:0:0::1",
            "[2001:db8::1]",
            "[2001:db8::1]:4711",
            " [2001:db8::1] ",
        ] {
            assert!(by_proxy(hop), "{hop}");
        }
        for hop in [
            "[203.0.113.9]",
            "[203.0.113.9]:4711",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]4711",
            "[2001:db8::1]:",
            "[2001:db8::1]:65536",
            "[2001:db8::1]:+1",
            "[[2001:db8::1]]",
            "[]",
            "203.0.113.9:",
            "203.0.113.9:x",
            "203.0.113.9:-1",
            "203.0.113.09",
            "\"203.0.113.9\"",
            "for=203.0.113.9",
            "_hidden",
            "",
        ] {
            assert!(!by_proxy(hop), "{hop}");
        }
    }

    #[test]
    fn an_invalid_network_is_reported() {
        let error = "10.0.0.0/33".parse::<Networks>().expect_err("no network");
        assert!(error.to_string().contains("10.0.0.0/33"));
        "svx".parse::<Networks>().expect_err("no network");
    }
}
