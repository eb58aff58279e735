//! What nftables is told: the table, and what of it is one machine's.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::outer::Outer;
use crate::PortMapping;

/// The table's family, and its name on the host and in each namespace.
pub(crate) const FAMILY: &str = "inet";
pub(crate) const TABLE: &str = "mimeo";
/// The table, without machines.
pub(crate) const BASE: &str = include_str!("table.nft");
/// The table in a machine's namespace.
pub(crate) const INNER: &str = include_str!("inner.nft");

/// One element of a map or a set of the table, as nft writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) set: &'static str,
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

/// What has a port of the host lead to a machine.
pub(crate) fn published(port: &PortMapping, outer: Outer) -> Vec<Element> {
    let (host, guest) = (port.host_port.unwrap_or_default(), port.guest_port);
    let protocol = port.protocol;
    let to = |ip: IpAddr| Some(format!("{ip} . {guest}"));
    match port.host_ip {
        Ipv4Addr::UNSPECIFIED => {
            let key = format!("{protocol} . {host}");
            vec![
                Element { set: "any4", key: key.clone(), value: to(outer.ip().into()) },
                Element { set: "any6", key, value: to(outer.ip6().into()) },
            ]
        }
        ip => {
            let key = format!("{protocol} . {ip} . {host}");
            vec![Element { set: "at4", key, value: to(outer.ip().into()) }]
        }
    }
}

/// What lets other open machines reach this one.
pub(crate) fn open(outer: Outer) -> Vec<Element> {
    let set = |set, ip: IpAddr| Element { set, key: ip.to_string(), value: None };
    vec![set("open4", outer.ip().into()), set("open6", outer.ip6().into())]
}

/// Adds them as those of the machine `id`.
pub(crate) fn add(elements: &[Element], id: &str) -> String {
    let mut text = String::new();
    for Element { set, key, value } in elements {
        let value = value.as_ref().map(|value| format!(" : {value}")).unwrap_or_default();
        writeln!(text, "add element {FAMILY} {TABLE} {set} {{ {key} comment \"{id}\"{value} }}").ok();
    }
    text
}

/// Takes them away.
pub(crate) fn delete(elements: &[Element]) -> String {
    let mut text = String::new();
    for Element { set, key, .. } in elements {
        writeln!(text, "delete element {FAMILY} {TABLE} {set} {{ {key} }}").ok();
    }
    text
}

/// Takes the whole table away, if it is there.
pub(crate) fn retire() -> String {
    format!("add table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n")
}

/// The elements in nft's description of the table that are of machines that `is_gone`.
pub(crate) fn of_gone(table: &Value, is_gone: impl Fn(&str) -> bool) -> Vec<Element> {
    let objects = table["nftables"].as_array().into_iter().flatten();
    let sets = objects.filter_map(|object| object.get("map").or_else(|| object.get("set")));
    sets.flat_map(|set| elements(set, &is_gone)).collect()
}

fn elements(set: &Value, is_gone: impl Fn(&str) -> bool) -> Vec<Element> {
    let known = ["any4", "at4", "any6", "at6", "open4", "open6"];
    let Some(name) = known.into_iter().find(|name| set["name"] == *name) else { return Vec::new() };
    let entries = set["elem"].as_array().into_iter().flatten();
    // An entry of a map is a pair of key and value.
    let keys = entries.map(|entry| entry.as_array().and_then(|pair| pair.first()).unwrap_or(entry));
    let gone = keys.filter(|key| key["elem"]["comment"].as_str().is_some_and(&is_gone));
    gone.filter_map(|key| Some(Element { set: name, key: written(&key["elem"]["val"])?, value: None }))
        .collect()
}

/// A key as nft reads it.
fn written(key: &Value) -> Option<String> {
    let word = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match key["concat"].as_array() {
        Some(parts) => parts.iter().map(word).collect::<Option<Vec<_>>>().map(|words| words.join(" . ")),
        None => word(key),
    }
}

/// The ids that nft's description of the table names.
pub(crate) fn named(table: &Value) -> BTreeSet<String> {
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

    fn outer() -> Outer {
        "10.202.0.2".parse().expect("an address of the bridge")
    }

    #[test]
    fn a_port_without_an_address_is_published_on_all_of_both_families() {
        let ports = PortMapping::parse("8080:80/udp").expect("a port");
        let text = add(&published(&ports[0], outer()), "abc");
        assert_eq!(
            text,
            "add element inet mimeo any4 { udp . 8080 comment \"abc\" : 10.202.0.2 . 80 }\n\
             add element inet mimeo any6 { udp . 8080 comment \"abc\" : fd6d:696d:656f::2 . 80 }\n"
        );
    }

    #[test]
    fn a_port_with_an_address_is_published_there_alone() {
        let ports = PortMapping::parse("127.0.0.1:8080:80").expect("a port");
        let elements = published(&ports[0], outer());
        assert_eq!(delete(&elements), "delete element inet mimeo at4 { tcp . 127.0.0.1 . 8080 }\n");
    }

    #[test]
    fn what_is_of_machines_that_are_gone_is_found_by_its_comment() {
        let elem = |key: Value, id: &str| json!({ "elem": { "val": key, "comment": id } });
        let table = json!({ "nftables": [
            { "metainfo": { "version": "1.0.6" } },
            { "map": { "name": "any4", "elem": [
                [elem(json!({ "concat": ["tcp", 8080] }), "gone"), { "concat": ["10.202.0.2", 80] }],
                [elem(json!({ "concat": ["tcp", 8081] }), "here"), { "concat": ["10.202.0.3", 80] }]] } },
            { "set": { "name": "open4", "elem": [elem(json!("10.202.0.2"), "gone")] } },
            { "set": { "name": "somebody else's", "elem": [elem(json!("10.202.0.2"), "gone")] } }] });
        let found = of_gone(&table, |id| id == "gone");
        let keys: Vec<_> = found.iter().map(|element| (element.set, element.key.as_str())).collect();
        assert_eq!(keys, [("any4", "tcp . 8080"), ("open4", "10.202.0.2")]);
        assert_eq!(named(&table).into_iter().collect::<Vec<_>>(), ["gone", "here"]);
    }
}
