#!/bin/sh
# What Debian's cloud images change after the packages are installed. $1 is the root directory.
set -eu
root=$1

chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service
ln -sf /run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
echo 'LANG=C.UTF-8' >"$root/etc/default/locale"
mkdir -p "$root/boot/efi"

# An identity of its own: no machine id, no host keys, no host name.
: >"$root/etc/machine-id"
: >"$root/etc/hostname"
rm -f "$root"/var/lib/dbus/machine-id "$root"/etc/ssh/ssh_host_*

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/debconf/*-old \
	"$root"/var/lib/dpkg/*-old "$root"/var/log/*.log "$root"/var/log/apt
