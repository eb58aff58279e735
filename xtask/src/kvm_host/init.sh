# The emulated host's init script: sets up the system, runs one command, returns its exit code and files, powers off.
control=/run/control

mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777,size=90% tmpfs /tmp
mount -t tmpfs -o mode=755,size=90% tmpfs /var/lib
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/mimeo /run/user/1000 /home/user /out
mount -t tmpfs -o mode=1777,size=50% tmpfs /out
ln -sfn /proc/self/fd /dev/fd
hostname kvm-host
printf '127.0.0.1 localhost\n127.0.1.1 kvm-host\n' >/etc/hosts
grep -q ^user: /etc/passwd || echo 'user:x:1000:1000::/home/user:/bin/sh' >>/etc/passwd
chown 1000:1000 /home/user /run/user/1000
ip link set lo up
modprobe -a virtio_console kvm-amd tun fuse overlay nf_tables 2>/dev/null
# As Debian's udev rules do for logged-in users.
chmod 666 /dev/kvm /dev/net/tun /dev/fuse 2>/dev/null
cut -d' ' -f1 /proc/uptime >$control/ready

while read -r tag path; do
    mkdir -p "$path"
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro "$tag" "$path"
done <$control/shares

port() { # waits for the virtio port with this name and prints its device
    for _ in $(seq 100); do
        for name in /sys/class/virtio-ports/*/name; do
            if [ "$(cat "$name" 2>/dev/null)" = "$1" ]; then
                echo "/dev/$(basename "$(dirname "$name")")"
                return
            fi
        done
        sleep 0.05
    done
}

if [ -e $control/tty ]; then
    setsid --ctty --wait /bin/sh $control/command </dev/hvc0 >/dev/hvc0 2>&1
    code=$?
else
    /bin/sh $control/command <"$(port input)" >"$(port output)" 2>"$(port errors)"
    code=$?
fi
if [ -n "$(ls -A /out)" ]; then
    tar -C /out -cf $control/files.tar . || code=125
fi
echo $code >$control/exit-code.new
mv $control/exit-code.new $control/exit-code
sync
echo o >/proc/sysrq-trigger
# Spin with shell builtins only: programs can no longer be loaded from the disk.
while :; do :; done
