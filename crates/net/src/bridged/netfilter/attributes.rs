//! Attributes of a netlink message.

/// A sequence of `nlattr` (`linux/netlink.h`): length, type and value, each padded to four bytes.
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

    /// A NUL-terminated string.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// A big-endian number, as nf_tables has them.
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
