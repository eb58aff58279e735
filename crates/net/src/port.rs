//! Published ports, in podman's syntax.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// The transport protocol of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The IP protocol number.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP as u8,
            Self::Udp => libc::IPPROTO_UDP as u8,
        }
    }

    /// The protocol with this IP protocol number.
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|protocol| u64::from(protocol.number()) == number)
    }

    /// The protocol with this name, as `Display` writes it.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|protocol| protocol.to_string() == name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A host port that is forwarded to a port of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address to listen on; 0.0.0.0 is all of them.
    pub host_ip: Ipv4Addr,
    /// The host's port; `None` until one is chosen.
    pub host_port: Option<u16>,
    /// The machine's port.
    pub guest_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// Why a text is not a valid port mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePortError {
    /// The text does not have the form `[IP:][HOST:]GUEST[/tcp|/udp]`.
    #[error("{0:?} is not [IP:][HOST:]GUEST[/tcp|/udp]")]
    Form(String),
    /// A number is not a port number.
    #[error("{0:?} is not a port between 1 and 65535")]
    Number(String),
    /// The address is not an IPv4 address.
    #[error("{0:?} is not an IPv4 address")]
    Address(String),
    /// Ports cannot be published on an IPv6 address.
    #[error("{0} is an IPv6 address; user-mode networking publishes on IPv4 only")]
    Ipv6(IpAddr),
    /// The protocol is neither TCP nor UDP.
    #[error("{0:?} is neither tcp nor udp")]
    Protocol(String),
    /// The two ranges have different lengths.
    #[error("{0:?} maps ranges of different lengths")]
    Ranges(String),
}

impl PortMapping {
    /// Parses `[IP:][HOST:]GUEST[/tcp|/udp]`, where HOST and GUEST may be ranges
    /// such as `8000-8010`. Without HOST, the host port is chosen when the machine starts.
    ///
    /// # Errors
    /// When the text does not have that form.
    pub fn parse(text: &str) -> Result<Vec<Self>, ParsePortError> {
        let (ports, protocol) = match text.split_once('/') {
            Some((ports, protocol)) => (ports, parse_protocol(protocol)?),
            None => (text, Protocol::Tcp),
        };
        let (rest, guest) = match ports.rsplit_once(':') {
            Some((rest, guest)) => (Some(rest), guest),
            None => (None, ports),
        };
        let guest = parse_range(guest)?;
        let (host_ip, host) = match rest {
            Some(rest) => parse_host(rest)?,
            None => (Ipv4Addr::UNSPECIFIED, None),
        };
        let Some(host) = host else {
            return Ok(guest
                .map(|guest_port| Self { host_ip, host_port: None, guest_port, protocol })
                .collect());
        };
        if host.clone().count() != guest.clone().count() {
            return Err(ParsePortError::Ranges(text.to_owned()));
        }
        Ok(host
            .zip(guest)
            .map(|(host, guest_port)| Self { host_ip, host_port: Some(host), guest_port, protocol })
            .collect())
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.host_ip)?;
        if let Some(port) = self.host_port {
            write!(f, "{port}")?;
        }
        write!(f, "->{}/{}", self.guest_port, self.protocol)
    }
}

type HostSide = (Ipv4Addr, Option<RangeInclusive<u16>>);

fn parse_host(text: &str) -> Result<HostSide, ParsePortError> {
    if let Some((ip, port)) = text.rsplit_once(':') {
        let ip = parse_ip(ip)?;
        let port = if port.is_empty() { None } else { Some(parse_range(port)?) };
        return Ok((ip, port));
    }
    Ok((Ipv4Addr::UNSPECIFIED, Some(parse_range(text)?)))
}

fn parse_ip(text: &str) -> Result<Ipv4Addr, ParsePortError> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST);
    }
    match text.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(ip)) => Ok(ip),
        Ok(ip) => Err(ParsePortError::Ipv6(ip)),
        Err(_) => Err(ParsePortError::Address(text.to_owned())),
    }
}

fn parse_protocol(text: &str) -> Result<Protocol, ParsePortError> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err(ParsePortError::Protocol(text.to_owned())),
    }
}

fn parse_range(text: &str) -> Result<RangeInclusive<u16>, ParsePortError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_number(first)?, parse_number(last)?);
    if first > last {
        return Err(ParsePortError::Form(text.to_owned()));
    }
    Ok(first..=last)
}

fn parse_number(text: &str) -> Result<u16, ParsePortError> {
    match text.parse() {
        Ok(0) | Err(_) => Err(ParsePortError::Number(text.to_owned())),
        Ok(port) => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> String {
        let mappings = PortMapping::parse(text).expect("parses");
        mappings.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_podman_form_is_parsed() {
        assert_eq!(one("8080:80"), "0.0.0.0:8080->80/tcp");
        assert_eq!(one("127.0.0.1:8080:80"), "127.0.0.1:8080->80/tcp");
        assert_eq!(one("localhost:8080:80/TCP"), "127.0.0.1:8080->80/tcp");
        assert_eq!(one("53:53/udp"), "0.0.0.0:53->53/udp");
        assert_eq!(one("80"), "0.0.0.0:->80/tcp");
        assert_eq!(one("127.0.0.1::80"), "127.0.0.1:->80/tcp");
        assert_eq!(one("8000-8001:80-81"), "0.0.0.0:8000->80/tcp 0.0.0.0:8001->81/tcp");
    }

    #[test]
    fn invalid_ports_are_refused_with_a_reason() {
        let refused = |text: &str| PortMapping::parse(text).expect_err("refused").to_string();
        assert_eq!(refused("x:80"), "\"x\" is not a port between 1 and 65535");
        assert_eq!(refused("0:80"), "\"0\" is not a port between 1 and 65535");
        assert_eq!(refused("80:80/sctp"), "\"sctp\" is neither tcp nor udp");
        assert_eq!(refused("300.0.0.1:80:80"), "\"300.0.0.1\" is not an IPv4 address");
        assert_eq!(refused("80-82:80-81"), "\"80-82:80-81\" maps ranges of different lengths");
        assert!(refused("[::1]:80:80").contains("IPv4 only"));
    }

    proptest! {
        #[test]
        fn the_parser_never_panics(text in ".{0,40}") {
            drop(PortMapping::parse(&text));
        }
    }
}
