//! A seed: what cloud-init is told.

use crate::{Network, SeedError, check, disk, metadata};

/// Largest user-data in bytes. Clouds allow 16 to 64 KiB.
pub const MAX_USER_DATA: usize = 1 << 20;
/// Largest vendor-data in bytes.
pub const MAX_VENDOR_DATA: usize = 64 << 10;
/// Most SSH keys.
pub const MAX_SSH_KEYS: usize = 64;
/// Longest line of an SSH key in bytes: four times an RSA key of 16384 bits.
const MAX_SSH_KEY: usize = 12 << 10;

/// What cloud-init is told at its first boot as this instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seed {
    /// cloud-init configures a guest again when this changes.
    pub instance_id: String,
    /// The guest's host name. cloud-init uses the first label as the host name, and all of it as the full name.
    pub hostname: String,
    /// The network; with `None`, cloud-init uses DHCP on the first interface.
    pub network: Option<Network>,
    /// Public keys, each a line as in an `authorized_keys` file. They are for the image's default user.
    pub ssh_keys: Vec<String>,
    /// The user's user-data, which reaches the guest byte for byte. At most [`MAX_USER_DATA`].
    pub user_data: Option<Vec<u8>>,
    /// mimeo's own part, of any format that user-data has. The user's cloud-config takes precedence, key by key: its
    /// `runcmd` replaces one of vendor-data, but a script (`#!`) of vendor-data runs besides all that the user gives. At
    /// most [`MAX_VENDOR_DATA`].
    pub vendor_data: Option<Vec<u8>>,
}

impl Seed {
    /// Makes the seed's disk. The same seed has the same bytes; their number is a multiple of 512.
    ///
    /// # Errors
    /// Names the value that cannot be used.
    pub fn disk(&self) -> Result<Vec<u8>, SeedError> {
        self.validate()?;
        let metadata = metadata::render(self)?;
        let network = self.network.as_ref().map(Network::render).transpose()?;
        // cloud-init ignores a seed without user-data, so there is always this file.
        let mut files = vec![
            ("meta-data", metadata.as_slice()),
            ("user-data", self.user_data.as_deref().unwrap_or_default()),
        ];
        files.extend(network.as_deref().map(|content| ("network-config", content)));
        files.extend(self.vendor_data.as_deref().map(|content| ("vendor-data", content)));
        Ok(disk::write(&files)?)
    }

    /// Checks the seed without making it.
    ///
    /// # Errors
    /// Names the value that cannot be used.
    pub fn validate(&self) -> Result<(), SeedError> {
        check::instance_id(&self.instance_id)?;
        check::host_name(&self.hostname)?;
        self.network.as_ref().map_or(Ok(()), Network::validate)?;
        check::count("SSH keys", self.ssh_keys.len(), MAX_SSH_KEYS)?;
        for (index, key) in self.ssh_keys.iter().enumerate() {
            check::ensure(check::is_line(key.trim(), MAX_SSH_KEY), || SeedError::SshKey {
                number: index + 1,
                limit: MAX_SSH_KEY,
            })?;
        }
        check::length("user-data", size(self.user_data.as_ref()), MAX_USER_DATA)?;
        check::length("vendor-data", size(self.vendor_data.as_ref()), MAX_VENDOR_DATA)
    }
}

fn size(data: Option<&Vec<u8>>) -> usize {
    data.map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};
    use std::net::{IpAddr, Ipv4Addr};

    use fatfs::{FileSystem, FsOptions};
    use proptest::prelude::{Strategy as _, any, prop_assert, prop_assert_eq, proptest};
    use serde_json::{Value, json};

    use super::*;
    use crate::{Addressing, Interface};

    fn seed() -> Seed {
        Seed { instance_id: "agent-1".into(), hostname: "agent-1.example".into(), ..Seed::default() }
    }

    fn interface() -> Interface {
        Interface { mac: [0x52, 0x54, 0, 0xAB, 0xCD, 0xEF], ..Interface::default() }
    }

    fn with_interface(interface: Interface) -> Seed {
        Seed { network: Some(Network { interfaces: vec![interface] }), ..seed() }
    }

    fn file(disk: &[u8], name: &str) -> Option<Vec<u8>> {
        let mut disk = disk.to_vec();
        let filesystem = FileSystem::new(Cursor::new(&mut disk), FsOptions::new()).expect("a filesystem");
        let mut file = filesystem.root_dir().open_file(name).ok()?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).expect("readable");
        Some(content)
    }

    fn json_file(seed: &Seed, name: &str) -> Value {
        let disk = seed.disk().expect("a disk");
        serde_json::from_slice(&file(&disk, name).expect("present")).expect("JSON")
    }

    fn error(seed: &Seed) -> String {
        seed.disk().expect_err("refused").to_string()
    }

    #[test]
    fn the_disk_has_the_label_that_cloud_init_looks_for() {
        let mut disk = seed().disk().expect("a disk");
        assert_eq!(disk.len() % 512, 0);
        let filesystem = FileSystem::new(Cursor::new(&mut disk), FsOptions::new()).expect("a filesystem");
        assert_eq!(filesystem.volume_label(), "CIDATA");
        assert_eq!(
            filesystem.read_volume_label_from_root_dir().expect("readable").as_deref(),
            Some("CIDATA")
        );
    }

    #[test]
    fn a_seed_without_user_data_has_an_empty_file_and_no_optional_ones() {
        let disk = seed().disk().expect("a disk");
        assert_eq!(file(&disk, "user-data"), Some(Vec::new()));
        assert_eq!(file(&disk, "network-config"), None);
        assert_eq!(file(&disk, "vendor-data"), None);
    }

    #[test]
    fn meta_data_names_the_instance_and_its_keys() {
        let keys = vec!["ssh-ed25519 AAAA Zoë\n".to_owned()];
        let seed = Seed { instance_id: "0123".into(), ssh_keys: keys, ..seed() };
        let expected = json!({
            "instance-id": "0123", "local-hostname": "agent-1.example", "public-keys": ["ssh-ed25519 AAAA Zoë"],
        });
        assert_eq!(json_file(&seed, "meta-data"), expected);
    }

    #[test]
    fn dhcp_matches_the_interface_by_its_mac() {
        let seed = with_interface(Interface { ipv4: Some(Addressing::Dhcp), ..interface() });
        let expected = json!({ "version": 2, "ethernets": { "nic0": {
            "match": { "macaddress": "52:54:00:ab:cd:ef" }, "dhcp4": true, "dhcp6": false,
        } } });
        assert_eq!(json_file(&seed, "network-config"), expected);
    }

    #[test]
    fn static_addresses_have_prefixes_gateways_and_name_servers() {
        let ipv4 = Addressing::Static {
            address: Ipv4Addr::new(10, 0, 0, 5),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(10, 0, 0, 1)),
        };
        let ipv6 = Addressing::Static {
            address: "fd00::5".parse().expect("an address"),
            prefix: 64,
            gateway: Some("fe80::1".parse().expect("an address")),
        };
        let seed = with_interface(Interface {
            ipv4: Some(ipv4),
            ipv6: Some(ipv6),
            dns: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))],
            search: vec!["mimeo.internal".into()],
            mtu: Some(1400),
            ..interface()
        });
        let expected = json!({ "version": 2, "ethernets": { "nic0": {
            "match": { "macaddress": "52:54:00:ab:cd:ef" }, "dhcp4": false, "dhcp6": false,
            "addresses": ["10.0.0.5/24", "fd00::5/64"], "gateway4": "10.0.0.1", "gateway6": "fe80::1",
            "nameservers": { "addresses": ["10.0.0.1"], "search": ["mimeo.internal"] }, "mtu": 1400,
        } } });
        assert_eq!(json_file(&seed, "network-config"), expected);
    }

    #[test]
    fn networks_that_cannot_work_are_refused() {
        let ipv4 = |prefix, gateway: [u8; 4]| Interface {
            ipv4: Some(Addressing::Static {
                address: Ipv4Addr::new(10, 0, 0, 5),
                prefix,
                gateway: Some(gateway.into()),
            }),
            ..interface()
        };
        for (interface, expected) in [
            (ipv4(33, [10, 0, 0, 1]), "cannot use the address 10.0.0.5/33: the prefix has at most 32 bits"),
            (ipv4(24, [10, 0, 1, 1]), "cannot use the gateway 10.0.1.1: it is not in 10.0.0.5/24"),
            (ipv4(24, [10, 0, 0, 5]), "cannot use the gateway 10.0.0.5: it is not in 10.0.0.5/24"),
            (
                Interface { search: vec!["a b".into()], ..interface() },
                "cannot use \"a b\" as a search domain: it is not a domain name",
            ),
            (
                Interface { mtu: Some(100), ..interface() },
                "cannot use the MTU 100: it must be from 576 to 65535",
            ),
        ] {
            assert_eq!(error(&with_interface(interface)), expected);
        }
        let twice = Network { interfaces: vec![interface(), interface()] };
        let expected = "cannot configure two interfaces with the MAC address 52:54:00:ab:cd:ef";
        assert_eq!(error(&Seed { network: Some(twice), ..seed() }), expected);
    }

    #[test]
    fn names_that_leave_their_place_are_refused() {
        for id in ["", ".", "..", "a/b", "../x", "a\nb", "a b", &"a".repeat(129)] {
            assert!(matches!(
                Seed { instance_id: id.into(), ..seed() }.disk(),
                Err(SeedError::InstanceId(given)) if given == id
            ));
        }
        for name in ["", "-a", "a-", "a..b", "a\n", "a b", "ä", &"a".repeat(64)] {
            assert!(matches!(
                Seed { hostname: name.into(), ..seed() }.disk(),
                Err(SeedError::HostName(given)) if given == name
            ));
        }
    }

    #[test]
    fn keys_of_several_lines_are_refused() {
        for key in
            ["", "ssh-rsa A\nssh-rsa B", "ssh-rsa A\u{85}B", "ssh-rsa A\u{fffe}", &"a".repeat(12 * 1024 + 1)]
        {
            let ssh_keys = vec!["ssh-rsa A".to_owned(), key.to_owned()];
            assert!(matches!(Seed { ssh_keys, ..seed() }.disk(), Err(SeedError::SshKey { number: 2, .. })));
        }
        let ssh_keys = vec!["ssh-rsa A".to_owned(); 65];
        assert_eq!(error(&Seed { ssh_keys, ..seed() }), "cannot use 65 SSH keys: a seed has at most 64");
    }

    #[test]
    fn the_largest_seed_fits_and_a_larger_one_is_refused() {
        let largest = Seed {
            user_data: Some(vec![b'u'; MAX_USER_DATA]),
            vendor_data: Some(vec![b'v'; MAX_VENDOR_DATA]),
            // Each character is two in JSON.
            ssh_keys: vec!["\"".repeat(MAX_SSH_KEY); MAX_SSH_KEYS],
            ..seed()
        };
        let disk = largest.disk().expect("a disk");
        assert_eq!(file(&disk, "user-data"), largest.user_data);
        assert_eq!(file(&disk, "vendor-data"), largest.vendor_data);
        let larger = Seed { user_data: Some(vec![0; MAX_USER_DATA + 1]), ..seed() };
        assert_eq!(
            error(&larger),
            "cannot use the user-data: it has 1048577 bytes, and at most 1048576 are supported"
        );
    }

    proptest! {
        #[test]
        fn user_data_is_kept_byte_for_byte_and_disks_are_reproducible(
            user_data in any::<Vec<u8>>(), vendor_data in any::<Option<Vec<u8>>>()
        ) {
            let seed = Seed { user_data: Some(user_data), vendor_data, ..seed() };
            let disk = seed.disk().expect("a disk");
            prop_assert_eq!(file(&disk, "user-data"), seed.user_data.clone());
            prop_assert_eq!(file(&disk, "vendor-data"), seed.vendor_data.clone());
            prop_assert!(disk == seed.disk().expect("a disk"));
        }

        #[test]
        fn every_size_of_user_data_fits(size in (0..MAX_USER_DATA).prop_map(|size| size / 37 * 37)) {
            let disk = Seed { user_data: Some(vec![b'x'; size]), ..seed() }.disk().expect("a disk");
            prop_assert_eq!(file(&disk, "user-data").map(|content| content.len()), Some(size));
        }
    }
}
