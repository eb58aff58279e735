//! The texts of /etc/hostname, /etc/hosts and /etc/resolv.conf.

use std::fmt::Write;

use mimeo_agent_protocol::message::Configure;

pub(crate) fn hostname(configure: &Configure) -> String {
    format!("{}\n", configure.hostname)
}

pub(crate) fn hosts(configure: &Configure) -> String {
    let mut text =
        String::from("127.0.0.1\tlocalhost localhost.localdomain\n::1\tlocalhost localhost.localdomain\n");
    let own = configure.interface.as_ref().map_or("127.0.1.1".to_owned(), |card| card.address.ip.to_string());
    line(&mut text, format_args!("{own}\t{}", configure.hostname));
    for (name, address) in &configure.hosts {
        line(&mut text, format_args!("{address}\t{name}"));
    }
    text
}

pub(crate) fn resolv_conf(configure: &Configure) -> String {
    let mut text = String::new();
    if !configure.dns_search.is_empty() {
        line(&mut text, format_args!("search {}", configure.dns_search.join(" ")));
    }
    for server in &configure.dns {
        line(&mut text, format_args!("nameserver {server}"));
    }
    text
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    writeln!(text, "{content}").ok();
}
