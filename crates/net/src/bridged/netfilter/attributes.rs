//! Attributes of a netlink message.

/// One after the other: length, kind, value, each filled up to four bytes (`nlattr` of `linux/netlink.h`).
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A text, with the zero that ends it.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// A number in the order of the network, as the packet filter has them.
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn nested(self, kind: u16, value: Self) -> Self {
        self.bytes(kind | libc::NLA_F_NESTED as u16, &value.0)
    }

    pub(super) fn maybe_nested(self, kind: u16, value: Option<Self>) -> Self {
        match value {
            Some(value) => self.nested(kind, value),
            None => self,
        }
    }
}
