//! Where servers listen.

use std::{fmt, path::PathBuf};

use larder_core::{Error, Result};

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Address {
    pub(crate) fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp { host: host.into(), port }
    }

    /// `host`, `host:port` or `[address]:port`.
    pub(crate) fn parse(field: &'static str, text: &str, default_port: u16) -> Result<Self> {
        let wrong = |why: &str| Error::config(field, format_args!("{text:?} {why}; write host:port or [address]:port"));
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(|| wrong("has no closing bracket"))?;
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return Err(wrong("has something else than a port behind its bracket")),
                }
            }
            None => match text.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(wrong("has more than one port")),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            None => default_port,
            Some(port) => {
                port.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong("has no port from 1 to 65535"))?
            }
        };
        if host.is_empty() || host.chars().any(char::is_whitespace) {
            return Err(wrong("names no host"));
        }
        Ok(Self::tcp(host, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The servers of a backend, as they are configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// One server.
    Server(Address),
    /// The primary of a service that sentinels watch.
    Sentinel { sentinels: Vec<Address>, service: String },
    /// A cluster, of which these nodes are known beforehand.
    Cluster { seeds: Vec<Address> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_ipv6_addresses_are_understood() {
        for (text, expected) in [
            ("cache", ("cache", 6379)),
            ("cache:7000", ("cache", 7000)),
            ("[::1]", ("::1", 6379)),
            ("[::1]:7000", ("::1", 7000)),
        ] {
            assert_eq!(Address::parse("url", text, 6379).unwrap(), Address::tcp(expected.0, expected.1), "{text}");
        }
        assert_eq!(Address::tcp("::1", 1).to_string(), "[::1]:1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", ":1", "a:0", "a:x", "a:70000", "::1", "[::1", "[::1]x", "a b:1"] {
            assert!(Address::parse("url", text, 6379).is_err(), "{text}");
        }
    }
}
