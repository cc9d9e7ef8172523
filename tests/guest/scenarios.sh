# Process 1 of the guest, with the checkout and a scenario. Whatever happens the guest ends.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
cd "$1" || /run/busybox poweroff -f

# What a product installs: whoever announces devices, and our rules.
/run/busybox mkdir -p /run/udev/rules.d
/run/busybox cp systemd/70-tmsctl.rules /run/udev/rules.d/
/usr/lib/systemd/systemd-udevd --daemon

# CLOCK_BOOTTIME says that the guest has run for a day: limits count over minutes and hours, and the
# guard rightly fires nothing while it cannot know the last minute.
/usr/bin/unshare --fork --time --boottime 86400 \
    .venv/bin/python -m tests.guest.scenarios "$2" </dev/null >/dev/console 2>&1

echo "ended $?" >/dev/console
/run/busybox poweroff -f
