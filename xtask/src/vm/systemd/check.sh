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

# What the store holds, on one line without blanks.
report() {
    imdsmon report --format json | tr -d ' \n'
}

# Whether the report has what the regular expression describes.
reported() {
    report | grep -q -- "$1"
}

# Calls of all clients.
calls() {
    report | grep -o '"totals":{"calls":[0-9]*' | head -n 1 | cut -d: -f3
}

# The times of watching that did not end as they should.
torn() {
    report | grep -o '"is_complete":false' | wc -l
}

# Whether the journal of the unit, and what systemd itself says of it, has this.
logged() {
    journalctl --no-pager -b -o cat -u "$unit" | grep -q -- "$1"
}

# Makes a call without a token.
call() {
    curl -sS -m 20 "http://169.254.169.254/latest/meta-data/$1" >/dev/null || fail "curl $1"
}

within 120 active || fail 'the service does not start'
[ "$(property Type "$unit")" = notify ] || fail 'its type is not notify'
property StatusText "$unit" | grep -q . || fail 'it has no status'
ok "the service is active: $(property StatusText "$unit")"

# Prints what it finds about any unit; only this one is ours.
found=$(SYSTEMD_LOG_LEVEL=warning systemd-analyze --man=no verify "$unit" imdsmon-metrics.socket 2>&1 | grep imdsmon)
[ -z "$found" ] || fail "systemd-analyze verify: $found"
journalctl --no-pager -b -o cat | grep -i 'ordering cycle' && fail 'an ordering cycle'
ok 'systemd-analyze verify has nothing to say, and there is no ordering cycle'

systemd-analyze --no-pager --threshold=20 security "$unit" >/tmp/security || fail "$(tail -n 1 /tmp/security)"
ok "$(tail -n 1 /tmp/security | tr -cd '[:print:]')"
# Into the log, for docs/reference/packages.md.
grep '✗' /tmp/security

began=$(property ActiveEnterTimestampMonotonic "$unit")
called=$(property ExecMainStartTimestampMonotonic cloud-init-local.service)
[ "$called" -gt 0 ] || fail 'the call in place of cloud-init was not made'
[ "$began" -lt "$called" ] || fail "active at $began us, cloud-init began at $called us"
ok "active $(((called - began) / 1000)) ms before cloud-init begins"

pid=$(property MainPID "$unit")
[ "$(stat -c %U "/proc/$pid")" = imdsmon ] || fail 'it is not the user imdsmon'
# BPF, SYS_PTRACE, NET_BIND_SERVICE, DAC_READ_SEARCH: capability.h
left=0000008000080404
[ "$(awk '/^CapEff/ { print $2 }' "/proc/$pid/status")" = $left ] || fail 'other capabilities'
for held in $(cat "/proc/$pid/task"/*/status | awk '/^Cap(Eff|Prm)/ { print $2 }'); do
    [ $((0x$held & ~0x$left)) -eq 0 ] || fail "a thread has other capabilities: $held"
done
[ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] || fail 'it has a network'
[ "$(stat -c '%U %a' /var/lib/imdsmon)" = 'imdsmon 700' ] || fail 'others may read the store'
ok 'it has its own user, four capabilities are left of six, no network, and a store for itself'

within 60 reported '"self_test":{"time":"[^"]*","passed":true' || fail 'the canary check did not pass'
ok 'the canary check passed'

call from-the-check
within 20 reported from-the-check || fail 'an IMDSv1 call by curl does not appear in the report'
ok 'an IMDSv1 call by curl appears in the report'
within 20 reported from-cloud-init || fail 'the call in place of cloud-init does not appear'
ok 'so does the call at boot'
reported '"user":"root"' || fail 'the user has no name'
ok 'the user who called has a name'
imdsmon report | head -n 12

fields() {
    journalctl --no-pager -b -u "$unit" -o json --output-fields=IMDSMON_CLIENT,IMDSMON_PATH |
        grep '"IMDSMON_CLIENT":"[^"]*curl' | grep -q 'meta-data/from-the-check'
}
within 10 fields || fail 'the journal has no fields about the client'
ok 'the journal names the client in a field of its own'

scraped() {
    curl -sS -m 5 http://127.0.0.1:9464/metrics | grep '^imdsmon_calls_total{' | grep -q 'version="v1"'
}
within 10 scraped || fail 'metrics do not answer'
ok 'metrics answer at 127.0.0.1:9464'

# RELOADING=1 and READY=1 are systemd's to see, and told at this level only.
systemctl log-level debug
printf '[log]\npath = "/run/imdsmon/calls.ndjson"\n' >/etc/imdsmon/imdsmon.toml
systemctl reload "$unit" || fail 'reload'
within 20 active || fail 'it is not active after a reload'
within 10 logged 'reloaded the configuration' || fail 'it does not read its configuration again'
within 10 logged 'RELOADING=1' || fail 'systemd is not told of the reload'
systemctl log-level info
[ "$(property MainPID "$unit")" = "$pid" ] || fail 'a reload starts it anew'
call after-the-reload
within 20 grep -q after-the-reload /run/imdsmon/calls.ndjson || fail 'a changed configuration is not taken over'
ok 'it reloads, tells systemd so, and takes a changed configuration over'
printf '[log]\npaht = "/run/imdsmon/calls.ndjson"\n' >/etc/imdsmon/imdsmon.toml
systemctl reload "$unit" || fail 'reload'
within 10 logged 'keeping the previous configuration' || fail 'a wrong configuration is not told'
within 20 active || fail 'a wrong configuration ends it'
ok 'a wrong configuration is reported and changes nothing'
: >/etc/imdsmon/imdsmon.toml

mkdir -p /run/systemd/system/imdsmon.service.d
printf '[Service]\nWatchdogSec=5s\nTimeoutAbortSec=3s\nRestartSec=1s\n' >/run/systemd/system/imdsmon.service.d/watchdog.conf
systemctl daemon-reload
# Connects now and sends its request later: a connection that is older than the service.
mkfifo /tmp/ask
bash -c 'exec 3<>/dev/tcp/169.254.169.254/80; read -r _ </tmp/ask
printf "GET /latest/meta-data/from-before HTTP/1.0\r\n\r\n" >&3; cat <&3 >/dev/null; read -r _ </tmp/ask' &
sleep 2
before=$(calls)
systemctl restart "$unit" || fail 'restart'
pid=$(property MainPID "$unit")
within 20 reported '"passed":true' || fail 'no report after a restart'
[ "$before" -gt 0 ] && [ "$(calls)" = "$before" ] || fail "$before calls became $(calls)"
[ "$(torn)" = 0 ] || fail 'a monitoring run is incomplete after a restart'
ok "a restart keeps the $before calls, and what was watched before is complete"
echo >/tmp/ask
within 20 reported from-before || fail 'a call on an older connection is not captured'
reported '"name":"[^"]*bash[^"]*imdsmon-check' || fail 'who holds an older connection is not known'
echo >/tmp/ask
ok 'a call on a connection older than the service is captured and attributed'

sleep 12
[ "$(property MainPID "$unit")" = "$pid" ] || fail 'it does not serve the watchdog'
before=$(calls)
kill -STOP "$pid"
restarted() { [ "$(property NRestarts "$unit")" -ge 1 ] && active; }
within 120 restarted || fail 'the watchdog does not restart it'
logged 'Watchdog timeout' || fail 'it was not the watchdog'
[ "$(property MainPID "$unit")" != "$pid" ] || fail 'it is the same process'
ok 'it serves the watchdog, which kills and restarts it when it hangs'
within 20 reported from-cloud-init || fail 'the store is lost with the process'
[ "$(calls)" = "$before" ] || fail "$before calls became $(calls)"
[ "$(torn)" = 1 ] || fail "$(torn) times of watching are not complete after a kill"
ok "the $before calls are still known, and that it was killed"

systemctl stop imdsmon-metrics.socket "$unit" || fail 'stop'
[ "$(property Result "$unit")" = success ] || fail "it ends with $(property Result "$unit")"
[ "$(torn)" = 1 ] || fail 'a stopped monitoring run is incomplete'
ok 'it stops, and what it watched is complete'

dpkg --purge imdsmon >/dev/null 2>&1 || fail 'purge'
[ ! -e /var/lib/imdsmon ] || fail 'a purge leaves the store'
ok 'a purge leaves nothing'
verdict pass
