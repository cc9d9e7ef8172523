#!/bin/busybox sh
# First program of the guest. Its root becomes the root of the machine that started it: read-only
# over 9p, with a layer in memory for whatever is written. Then its scenario runs as process 1's
# only child, and the guest switches itself off.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order

share="trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro"
mount -t 9p -o "$share" root /lower || poweroff -f
mount -t tmpfs memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work overlay /root

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for folder in proc sys dev; do mount -o move "/$folder" "/root/$folder"; done
# Not over /tmp: the checkout may be there.
for folder in run dev/shm; do mount -t tmpfs memory "/root/$folder"; done
ip link set lo up

for word in $(cat /root/proc/cmdline); do
    case $word in
        checkout=*) checkout=${word#checkout=} ;;
        scenario=*) scenario=${word#scenario=} ;;
    esac
done
cp /bin/busybox /root/run/busybox
exec switch_root /root /bin/sh "$checkout/tests/guest/scenarios.sh" "$checkout" "$scenario"
