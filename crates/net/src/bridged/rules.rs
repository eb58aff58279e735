//! The host's nftables table, and the elements in it that belong to one machine.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::address::BridgeAddress;
use crate::{PortMapping, Protocol};

/// The table's family and name, on the host and in each machine's namespace.
pub(crate) const FAMILY: &str = "inet";
pub(crate) const TABLE: &str = "mimeo";
/// The table without any machine's elements.
pub(crate) const BASE: &str = include_str!("table.nft");
/// Its maps and sets.
const SETS: [&str; 6] = ["any4", "at4", "any6", "at6", "open4", "open6"];

/// One element of a map or a set of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) set: &'static str,
    pub(crate) key: Key,
    /// The destination, for an element of a map.
    pub(crate) to: Option<(IpAddr, u16)>,
}

/// The key of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A port on all addresses of the host.
    Any(Protocol, u16),
    /// A port on one address of the host.
    At(Protocol, IpAddr, u16),
    /// A machine's address.
    Machine(IpAddr),
}

/// The elements that forward a host port to a machine.
pub(crate) fn published(port: &PortMapping, address: BridgeAddress) -> Vec<Element> {
    let (host, protocol) = (port.host_port.unwrap_or_default(), port.protocol);
    let to = |ip: IpAddr| Some((ip, port.guest_port));
    match port.host_ip {
        Ipv4Addr::UNSPECIFIED => {
            let key = Key::Any(protocol, host);
            vec![
                Element { set: "any4", key, to: to(address.ip().into()) },
                Element { set: "any6", key, to: to(address.ip6().into()) },
            ]
        }
        ip => {
            let key = Key::At(protocol, ip.into(), host);
            vec![Element { set: "at4", key, to: to(address.ip().into()) }]
        }
    }
}

/// The elements that let other open machines reach this one.
pub(crate) fn open(address: BridgeAddress) -> Vec<Element> {
    let set = |set, ip: IpAddr| Element { set, key: Key::Machine(ip), to: None };
    vec![set("open4", address.ip().into()), set("open6", address.ip6().into())]
}

/// The elements in nft's JSON of the table whose machine `is_gone`.
pub(crate) fn stale_elements(table: &Value, is_gone: impl Fn(&str) -> bool) -> Vec<Element> {
    let objects = table["nftables"].as_array().into_iter().flatten();
    let sets = objects.filter_map(|object| object.get("map").or_else(|| object.get("set")));
    sets.flat_map(|set| elements(set, &is_gone)).collect()
}

fn elements(set: &Value, is_gone: impl Fn(&str) -> bool) -> Vec<Element> {
    let Some(name) = SETS.into_iter().find(|name| set["name"] == *name) else { return Vec::new() };
    let entries = set["elem"].as_array().into_iter().flatten();
    // An entry of a map is a pair of key and value.
    let keys = entries.map(|entry| entry.as_array().and_then(|pair| pair.first()).unwrap_or(entry));
    let gone = keys.filter(|key| key["elem"]["comment"].as_str().is_some_and(&is_gone));
    gone.filter_map(|key| Some(Element { set: name, key: parse_key(&key["elem"]["val"])?, to: None }))
        .collect()
}

/// Parses a key from nft's JSON.
fn parse_key(key: &Value) -> Option<Key> {
    // nft prints a number on hosts without /etc/protocols.
    let protocol = |value: &Value| match value.as_u64() {
        Some(number) => Protocol::from_number(number),
        None => Protocol::from_name(value.as_str()?),
    };
    let ip = |value: &Value| value.as_str()?.parse().ok();
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    match key["concat"].as_array().map(Vec::as_slice) {
        Some([of, number]) => Some(Key::Any(protocol(of)?, port(number)?)),
        Some([of, at, number]) => Some(Key::At(protocol(of)?, ip(at)?, port(number)?)),
        Some(_) => None,
        None => Some(Key::Machine(ip(key)?)),
    }
}

/// The machine ids in the comments of nft's JSON of the table.
pub(crate) fn machine_ids(table: &Value) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    collect(table, &mut ids);
    ids
}

fn collect(value: &Value, ids: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, ids)),
        Value::Object(fields) => {
            if let Some(Value::String(id)) = fields.get("comment") {
                ids.insert(id.clone());
            }
            fields.values().for_each(|value| collect(value, ids));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn address() -> BridgeAddress {
        "10.202.0.2".parse().expect("an address of the bridge")
    }

    #[test]
    fn a_port_without_an_address_is_published_on_all_of_both_families() {
        let port = PortMapping::parse("8080:80/udp").expect("a port")[0];
        let all = published(&port, address()).into_iter().map(|Element { set, key, to }| {
            assert_eq!(key, Key::Any(Protocol::Udp, 8080));
            let (ip, port) = to.expect("a map's element has a destination");
            format!("{set} {ip} {port}")
        });
        assert_eq!(all.collect::<Vec<_>>(), ["any4 10.202.0.2 80", "any6 fd6d:696d:656f::2 80"]);
    }

    #[test]
    fn a_port_with_an_address_is_published_on_that_address_only() {
        let port = PortMapping::parse("127.0.0.1:8080:80").expect("a port")[0];
        let key = Key::At(Protocol::Tcp, Ipv4Addr::LOCALHOST.into(), 8080);
        let to = Some((address().ip().into(), 80));
        assert_eq!(published(&port, address()), [Element { set: "at4", key, to }]);
    }

    #[test]
    fn stale_elements_are_found_by_their_comment() {
        let elem = |key: Value, id: &str| json!({ "elem": { "val": key, "comment": id } });
        let table = json!({ "nftables": [
            { "metainfo": { "version": "1.0.6" } },
            { "map": { "name": "any4", "elem": [
                [elem(json!({ "concat": ["tcp", 8080] }), "gone"), { "concat": ["10.202.0.2", 80] }],
                [elem(json!({ "concat": ["tcp", 8081] }), "here"), { "concat": ["10.202.0.3", 80] }]] } },
            { "map": { "name": "any6", "elem": [[elem(json!({ "concat": [17, 8080] }), "gone"), {}]] } },
            { "set": { "name": "open4", "elem": [elem(json!("10.202.0.2"), "gone")] } },
            { "set": { "name": "theirs", "elem": [elem(json!("10.202.0.2"), "gone")] } }] });
        let found = stale_elements(&table, |id| id == "gone");
        let keys: Vec<_> = found.iter().map(|element| (element.set, element.key)).collect();
        let machine = Key::Machine(address().ip().into());
        assert_eq!(
            keys,
            [
                ("any4", Key::Any(Protocol::Tcp, 8080)),
                ("any6", Key::Any(Protocol::Udp, 8080)),
                ("open4", machine),
            ]
        );
        assert_eq!(machine_ids(&table).into_iter().collect::<Vec<_>>(), ["gone", "here"]);
    }
}
