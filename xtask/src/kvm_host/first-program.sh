#!/bin/sh
# The emulated host's first program: mounts the control directory and goes on there.
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
modprobe -a 9pnet_virtio 9p
mkdir -p /run/control
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 control /run/control
exec /bin/sh /run/control/init
