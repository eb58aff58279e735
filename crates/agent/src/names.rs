//! A machine's names, and the content of the files that hold them.

use std::collections::BTreeMap;
use std::fmt::Write;

use mimeo_agent_protocol::message::{Configure, Identity, Interface};

/// The names that the host gives the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'a> {
    machine: &'a str,
    pub(crate) hostname: &'a str,
    interface: Option<&'a Interface>,
    dns: &'a [String],
    dns_search: &'a [String],
    dns_options: &'a [String],
    hosts: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Configure> for Names<'a> {
    fn from(configure: &'a Configure) -> Self {
        let Configure { machine, hostname, interface, dns, dns_search, dns_options, hosts, .. } = configure;
        Self { machine, hostname, interface: interface.as_ref(), dns, dns_search, dns_options, hosts }
    }
}

impl<'a> From<&'a Identity> for Names<'a> {
    fn from(identity: &'a Identity) -> Self {
        let Identity { machine, hostname, interface, dns, dns_search, dns_options, hosts, .. } = identity;
        Self { machine, hostname, interface: interface.as_ref(), dns, dns_search, dns_options, hosts }
    }
}

impl Names<'_> {
    /// /etc/hostname
    pub(crate) fn hostname_file(&self) -> String {
        format!("{}\n", self.hostname)
    }

    /// /etc/hosts
    pub(crate) fn hosts(&self) -> String {
        let mut text = String::from(
            "127.0.0.1\tlocalhost localhost.localdomain\n::1\tlocalhost localhost.localdomain\n",
        );
        let address = self.interface.map_or("127.0.1.1".to_owned(), |nic| nic.address.ip.to_string());
        push_line(&mut text, format_args!("{address}\t{}", self.hostname));
        for (name, address) in self.hosts {
            push_line(&mut text, format_args!("{address}\t{name}"));
        }
        text
    }

    /// /etc/resolv.conf
    pub(crate) fn resolv_conf(&self) -> String {
        let mut text = String::new();
        if !self.dns_search.is_empty() {
            push_line(&mut text, format_args!("search {}", self.dns_search.join(" ")));
        }
        for server in self.dns {
            push_line(&mut text, format_args!("nameserver {server}"));
        }
        if !self.dns_options.is_empty() {
            push_line(&mut text, format_args!("options {}", self.dns_options.join(" ")));
        }
        text
    }

    /// /etc/machine-id: 32 digits, the first half of the machine's id. `None`
    /// when the machine's id is invalid.
    pub(crate) fn machine_id(&self) -> Option<String> {
        let half = self.machine.get(..32)?;
        half.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| half.to_ascii_lowercase() + "\n")
    }
}

fn push_line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    writeln!(text, "{content}").ok();
}
