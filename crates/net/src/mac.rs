//! MAC addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A MAC address, written `02:xx:xx:xx:xx:xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// A locally administered unicast address that ends in `tail`. The tail should be random: two machines on one
    /// network need different addresses.
    #[must_use]
    pub fn local(tail: [u8; 5]) -> Self {
        let [a, b, c, d, e] = tail;
        Self([0x02, a, b, c, d, e])
    }

    /// Its six bytes.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = String;

    /// Parses the address of a NIC: unicast, and not zero.
    fn from_str(text: &str) -> Result<Self, String> {
        let mac = Self::try_from(text.replace('-', ":"))?;
        if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
            return Err(format!(
                "{text:?} is not the MAC address of a NIC: the first byte is even, and not all are 0"
            ));
        }
        Ok(mac)
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for MacAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let octets: Vec<u8> = text.split(':').map_while(|octet| u8::from_str_radix(octet, 16).ok()).collect();
        octets.try_into().map(Self).map_err(|_| format!("{text:?} is not a MAC address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_round_trips_as_text() {
        let mac = MacAddress::local([1, 2, 0xab, 4, 0xff]);
        assert_eq!(mac.to_string(), "02:01:02:ab:04:ff");
        assert_eq!(MacAddress::try_from(mac.to_string()), Ok(mac));
        assert!(MacAddress::try_from("02:01".to_owned()).is_err());
        assert_eq!(
            "92:d0:c6:0a:29:33".parse::<MacAddress>().map(String::from),
            Ok("92:d0:c6:0a:29:33".to_owned())
        );
        for bad in [
            "",
            "93:d0:c6:0a:29:33",
            "00:00:00:00:00:00",
            "92:d0:c6:0a:29",
            "92:d0:c6:0a:29:33:44",
            "92:d0:c6:0a:29:zz",
        ] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}
