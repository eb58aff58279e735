//! The nftables rules of a machine's namespace: traffic to its outer address is forwarded to the guest.
//!
//! `tests/inner.nft` has the same rules in nft's language; a test compares the two.

use std::net::IpAddr;

use super::{Attributes, Batch, CREATES, TABLE, address};
use crate::Subnet;
use crate::bridged::{GUEST_SUBNET, UPLINK};

const PREROUTING: &str = "prerouting";
const POSTROUTING: &str = "postrouting";
/// Priorities of NAT chains (`NF_IP_PRI_NAT_DST` and `_SRC`).
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
/// Length of an interface name in nf_tables (IFNAMSIZ).
const NAME: usize = 16;
/// ICMPv6 type of an echo request.
const ECHO_REQUEST: u8 = 128;
const REGISTER: u32 = libc::NFT_REG_1 as u32;

/// The table of a machine's namespace.
pub(crate) fn rules() -> Batch {
    let [ip, ip6] = [GUEST_SUBNET.guest().into(), Subnet::GUEST_6.into()];
    let mut batch = Batch::new();
    batch.push(libc::NFT_MSG_NEWTABLE, CREATES, &Attributes::default().text(1, TABLE));
    batch.chain(PREROUTING, libc::NF_INET_PRE_ROUTING, DSTNAT);
    batch.chain(POSTROUTING, libc::NF_INET_POST_ROUTING, SRCNAT);
    batch.rule(PREROUTING, Rule::on(libc::NFT_META_IIFNAME).for_family(libc::NFPROTO_IPV4).to(ip));
    let of_ip6 =
        |protocol| Rule::on(libc::NFT_META_IIFNAME).for_family(libc::NFPROTO_IPV6).for_protocol(protocol);
    for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
        batch.rule(PREROUTING, of_ip6(protocol).to(ip6));
    }
    batch.rule(PREROUTING, of_ip6(libc::IPPROTO_ICMPV6).begins_with(ECHO_REQUEST).to(ip6));
    batch.rule(POSTROUTING, Rule::on(libc::NFT_META_OIFNAME).masquerade());
    batch
}

impl Batch {
    fn chain(&mut self, name: &str, hook: libc::c_int, priority: i32) {
        let place = Attributes::default().number(1, hook as u32).number(2, priority.cast_unsigned());
        let accept = libc::NF_ACCEPT as u32;
        let chain = Attributes::default()
            .text(1, TABLE)
            .text(3, name)
            .nested(4, place)
            .number(5, accept)
            .text(7, "nat");
        self.push(libc::NFT_MSG_NEWCHAIN, CREATES, &chain);
    }

    fn rule(&mut self, chain: &str, rule: Rule) {
        let rule = Attributes::default().text(1, TABLE).text(2, chain).nested(4, rule.0);
        self.push(libc::NFT_MSG_NEWRULE, CREATES | libc::NLM_F_APPEND as u16, &rule);
    }
}

/// A rule's expressions, in order: each loads a register, compares it, or acts on the packet.
#[derive(Default)]
struct Rule(Attributes);

impl Rule {
    /// Matches packets that enter or leave through [`UPLINK`].
    fn on(direction: libc::c_int) -> Self {
        let mut name = [0; NAME];
        name[..UPLINK.len()].copy_from_slice(UPLINK.as_bytes());
        Self::default().meta(direction).is(&name)
    }

    fn for_family(self, family: libc::c_int) -> Self {
        self.meta(libc::NFT_META_NFPROTO).is(&[family as u8])
    }

    fn for_protocol(self, protocol: libc::c_int) -> Self {
        self.meta(libc::NFT_META_L4PROTO).is(&[protocol as u8])
    }

    /// Matches the first byte of the transport header.
    fn begins_with(self, byte: u8) -> Self {
        let base = libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32;
        let payload = Attributes::default().number(1, REGISTER).number(2, base).number(3, 0).number(4, 1);
        self.expression("payload", payload).is(&[byte])
    }

    fn to(self, ip: IpAddr) -> Self {
        let value = Attributes::default().bytes(1, &address(ip));
        let family = if ip.is_ipv4() { libc::NFPROTO_IPV4 } else { libc::NFPROTO_IPV6 };
        let translate = Attributes::default()
            .number(1, libc::NFT_NAT_DNAT as u32)
            .number(2, family as u32)
            .number(3, REGISTER);
        let loaded = Attributes::default().number(1, REGISTER).nested(2, value);
        self.expression("immediate", loaded).expression("nat", translate)
    }

    fn masquerade(self) -> Self {
        self.expression("masq", Attributes::default())
    }

    fn meta(self, key: libc::c_int) -> Self {
        self.expression("meta", Attributes::default().number(1, REGISTER).number(2, key as u32))
    }

    fn is(self, value: &[u8]) -> Self {
        let value = Attributes::default().bytes(1, value);
        let compared =
            Attributes::default().number(1, REGISTER).number(2, libc::NFT_CMP_EQ as u32).nested(3, value);
        self.expression("cmp", compared)
    }

    fn expression(self, name: &str, data: Attributes) -> Self {
        let expression = Attributes::default().text(1, name).nested(2, data);
        Self(self.0.nested(1, expression))
    }
}
