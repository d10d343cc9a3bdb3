#!/bin/sh
# Looks at the service as an administrator would. Each line `imdsmon-vm: ok` is one thing that
# holds; the last line is the verdict, and the machine powers off.
set -u

unit=imdsmon.service

verdict() {
    printf '\nimdsmon-vm: %s\n' "$1"
    sync
    systemctl poweroff -ff
    exit
}

fail() {
    systemctl --no-pager --full status "$unit"
    journalctl --no-pager -b -u "$unit" -n 40 -o cat
    verdict "fail: $1"
}

ok() {
    printf 'imdsmon-vm: ok %s s: %s\n' "$(cut -d. -f1 /proc/uptime)" "$1"
}

# Tries COMMAND once a second, SECONDS times.
within() {
    seconds=$1
    shift
    while ! "$@" >/dev/null 2>&1; do
        seconds=$((seconds - 1))
        [ "$seconds" -gt 0 ] || return 1
        sleep 1
    done
}

property() {
    systemctl show --value --property "$1" "$2"
}

active() {
    [ "$(property ActiveState "$unit")" = active ]
}

# Whether the store, as the report tells it, knows of WORD.
reported() {
    imdsmon report --format json | grep -q -- "$1"
}

within 120 active || fail 'the service does not start'
ok 'the service is active'

# Prints what it finds about any unit; only this one is ours.
found=$(SYSTEMD_LOG_LEVEL=warning systemd-analyze --man=no verify "$unit" imdsmon-metrics.socket 2>&1 | grep imdsmon)
[ -z "$found" ] || fail "systemd-analyze verify: $found"
journalctl --no-pager -b -o cat | grep -i 'ordering cycle' && fail 'an ordering cycle'
ok 'systemd-analyze verify has nothing to say, and there is no ordering cycle'

systemd-analyze --no-pager --threshold=20 security "$unit" >/tmp/security || fail "$(tail -n 1 /tmp/security)"
ok "$(tail -n 1 /tmp/security | tr -cd '[:print:]')"

began=$(property ActiveEnterTimestampMonotonic "$unit")
called=$(property ExecMainStartTimestampMonotonic cloud-init-local.service)
[ "$called" -gt 0 ] || fail 'the call in place of cloud-init was not made'
[ "$began" -lt "$called" ] || fail "active at $began us, cloud-init began at $called us"
ok "active $(((called - began) / 1000)) ms before cloud-init begins"

pid=$(property MainPID "$unit")
[ "$(stat -c %U "/proc/$pid")" = imdsmon ] || fail 'it is not the user imdsmon'
# BPF, PERFMON, SYS_PTRACE, NET_ADMIN, NET_BIND_SERVICE, DAC_READ_SEARCH: capability.h
[ "$(awk '/^CapEff/ { print $2 }' "/proc/$pid/status")" = 000000c000081404 ] || fail 'other capabilities'
[ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] || fail 'it has a network'
[ "$(stat -c '%U %a' /var/lib/imdsmon)" = 'imdsmon 700' ] || fail 'others may read the store'
ok 'it has its own user, six capabilities, no network, and a store for itself'

curl -sS -m 20 http://169.254.169.254/latest/meta-data/from-the-check >/dev/null || fail 'curl'
within 20 reported from-the-check || fail 'a tokenless curl does not appear in the report'
ok 'a tokenless curl appears in the report'
within 20 reported from-cloud-init || fail 'the call in place of cloud-init does not appear'
ok 'so does the call at boot'

systemctl reload "$unit" || fail 'reload'
within 20 active || fail 'it is not active after a reload'
[ "$(property MainPID "$unit")" = "$pid" ] || fail 'a reload starts it anew'
ok 'it reloads'

mkdir -p /run/systemd/system/imdsmon.service.d
printf '[Service]\nWatchdogSec=5s\nTimeoutAbortSec=3s\nRestartSec=1s\n' >/run/systemd/system/imdsmon.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart "$unit" || fail 'restart'
pid=$(property MainPID "$unit")
sleep 12
[ "$(property MainPID "$unit")" = "$pid" ] || fail 'it does not serve the watchdog'
kill -STOP "$pid"
restarted() { [ "$(property NRestarts "$unit")" -ge 1 ] && active; }
within 120 restarted || fail 'the watchdog does not restart it'
ok 'it serves the watchdog, which restarts it when it hangs'
reported from-cloud-init || fail 'the store is lost with the process'
ok 'what it knew is still known'

systemctl stop "$unit" || fail 'stop'
[ "$(property Result "$unit")" = success ] || fail "it ends with $(property Result "$unit")"
ok 'it stops'

dpkg --purge imdsmon >/dev/null 2>&1 || fail 'purge'
[ ! -e /var/lib/imdsmon ] || fail 'a purge leaves the store'
ok 'a purge leaves nothing'
verdict pass
