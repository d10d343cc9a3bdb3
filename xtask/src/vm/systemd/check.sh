#!/bin/sh
# Tests the packaged service from inside the machine. Prints a line `imdsmon-vm: ok` for each check
# that passes, then the result, and powers the machine off.
set -u

unit=imdsmon.service

finish() {
    printf '\nimdsmon-vm: %s\n' "$1"
    sync
    systemctl poweroff -ff
    exit
}

fail() {
    systemctl --no-pager --full status "$unit"
    journalctl --no-pager -b -u "$unit" -n 40 -o cat
    finish "fail: $1"
}

ok() {
    printf 'imdsmon-vm: ok %s s: %s\n' "$(cut -d. -f1 /proc/uptime)" "$1"
}

# within SECONDS COMMAND...: runs COMMAND once a second until it succeeds.
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

# The report as JSON without white space.
report() {
    imdsmon report --format json | tr -d ' \n'
}

# Whether the report matches the regular expression.
reported() {
    report | grep -q -- "$1"
}

# The number of calls of all clients.
calls() {
    report | grep -o '"totals":{"calls":[0-9]*' | head -n 1 | cut -d: -f3
}

# The number of monitoring runs that ended unexpectedly.
incomplete() {
    report | grep -o '"is_complete":false' | wc -l
}

# Whether the journal has a matching line of the unit, or of systemd about it.
logged() {
    journalctl --no-pager -b -o cat -u "$unit" | grep -q -- "$1"
}

# Makes an IMDSv1 call.
call() {
    curl -sS -m 20 "http://169.254.169.254/latest/meta-data/$1" >/dev/null || fail "curl $1"
}

within 120 active || fail 'the service does not start'
[ "$(property Type "$unit")" = notify ] || fail 'the type of the service is not notify'
property StatusText "$unit" | grep -q . || fail 'the service has no status text'
ok "the service is active: $(property StatusText "$unit")"

# It also prints problems of other units.
found=$(SYSTEMD_LOG_LEVEL=warning systemd-analyze --man=no verify "$unit" imdsmon-metrics.socket 2>&1 | grep imdsmon)
[ -z "$found" ] || fail "systemd-analyze verify: $found"
journalctl --no-pager -b -o cat | grep -i 'ordering cycle' && fail 'systemd found an ordering cycle'
ok 'systemd-analyze verify finds no problem, and there is no ordering cycle'

systemd-analyze --no-pager --threshold=20 security "$unit" >/tmp/security || fail "$(tail -n 1 /tmp/security)"
ok "$(tail -n 1 /tmp/security | tr -cd '[:print:]')"
# For docs/reference/packages.md.
grep '✗' /tmp/security

began=$(property ActiveEnterTimestampMonotonic "$unit")
called=$(property ExecMainStartTimestampMonotonic cloud-init-local.service)
[ "$called" -gt 0 ] || fail 'the unit in place of cloud-init did not run'
[ "$began" -lt "$called" ] || fail "active at $began us, cloud-init started at $called us"
ok "active $(((called - began) / 1000)) ms before cloud-init starts"

pid=$(property MainPID "$unit")
[ "$(stat -c %U "/proc/$pid")" = imdsmon ] || fail 'the process does not run as imdsmon'
# BPF, SYS_PTRACE, NET_BIND_SERVICE, DAC_READ_SEARCH: capability.h
left=0000008000080404
[ "$(awk '/^CapEff/ { print $2 }' "/proc/$pid/status")" = $left ] || fail 'the process has other capabilities'
for held in $(cat "/proc/$pid/task"/*/status | awk '/^Cap(Eff|Prm)/ { print $2 }'); do
    [ $((0x$held & ~0x$left)) -eq 0 ] || fail "a thread has other capabilities: $held"
done
[ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] || fail 'the process is in the network namespace of the host'
[ "$(stat -c '%U %a' /var/lib/imdsmon)" = 'imdsmon 700' ] || fail 'other users can read the store'
ok 'user imdsmon, four of six capabilities left, private network namespace, private store'

within 60 reported '"self_test":{"time":"[^"]*","passed":true' || fail 'the canary check did not pass'
ok 'the canary check passed'

call from-the-check
within 20 reported from-the-check || fail 'an IMDSv1 call by curl does not appear in the report'
ok 'an IMDSv1 call by curl appears in the report'
within 20 reported from-cloud-init || fail 'the call at boot does not appear in the report'
ok 'the call at boot appears in the report'
reported '"user":"root"' || fail 'the report has no name of the user'
ok 'the report names the user'
imdsmon report | head -n 12

fields() {
    journalctl --no-pager -b -u "$unit" -o json --output-fields=IMDSMON_CLIENT,IMDSMON_PATH |
        grep '"IMDSMON_CLIENT":"[^"]*curl' | grep -q 'meta-data/from-the-check'
}
within 10 fields || fail 'the journal entry has no field for the client'
ok 'the journal entry has a field for the client'

scraped() {
    curl -sS -m 5 http://127.0.0.1:9464/metrics | grep '^imdsmon_calls_total{' | grep -q 'version="v1"'
}
within 10 scraped || fail 'no metrics at 127.0.0.1:9464'
ok 'metrics are served at 127.0.0.1:9464'

# systemd logs the notification RELOADING=1 at this level only.
systemctl log-level debug
printf '[log]\npath = "/run/imdsmon/calls.ndjson"\n' >/etc/imdsmon/imdsmon.toml
systemctl reload "$unit" || fail 'reload'
within 20 active || fail 'the service is not active after a reload'
within 10 logged 'reloaded the configuration' || fail 'a reload does not read the configuration'
within 10 logged 'RELOADING=1' || fail 'systemd is not notified of the reload'
systemctl log-level info
[ "$(property MainPID "$unit")" = "$pid" ] || fail 'a reload restarts the process'
call after-the-reload
within 20 grep -q after-the-reload /run/imdsmon/calls.ndjson || fail 'a reload does not apply the configuration'
ok 'a reload notifies systemd and applies the configuration'
printf '[log]\npaht = "/run/imdsmon/calls.ndjson"\n' >/etc/imdsmon/imdsmon.toml
systemctl reload "$unit" || fail 'reload'
within 10 logged 'keeping the previous configuration' || fail 'a wrong configuration is not reported'
within 20 active || fail 'a wrong configuration stops the service'
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
[ "$(incomplete)" = 0 ] || fail 'a monitoring run is incomplete after a restart'
ok "a restart keeps the $before calls, and the monitoring run before is complete"
echo >/tmp/ask
within 20 reported from-before || fail 'a call on an older connection is not captured'
reported '"name":"[^"]*bash[^"]*imdsmon-check' || fail 'a call on an older connection is not attributed'
echo >/tmp/ask
ok 'a call on a connection older than the service is captured and attributed'

sleep 12
[ "$(property MainPID "$unit")" = "$pid" ] || fail 'the watchdog killed a service that works'
before=$(calls)
kill -STOP "$pid"
restarted() { [ "$(property NRestarts "$unit")" -ge 1 ] && active; }
within 120 restarted || fail 'the watchdog does not restart the service'
logged 'Watchdog timeout' || fail 'the restart was not by the watchdog'
[ "$(property MainPID "$unit")" != "$pid" ] || fail 'the process is still the same'
ok 'the watchdog kills and restarts the service when it hangs'
within 20 reported from-cloud-init || fail 'the store is lost after a kill'
[ "$(calls)" = "$before" ] || fail "$before calls became $(calls)"
[ "$(incomplete)" = 1 ] || fail "$(incomplete) monitoring runs are incomplete after a kill"
ok "after a kill the $before calls are kept, and the monitoring run is incomplete"

systemctl stop imdsmon-metrics.socket "$unit" || fail 'stop'
[ "$(property Result "$unit")" = success ] || fail "the service ends with $(property Result "$unit")"
[ "$(incomplete)" = 1 ] || fail 'a stopped monitoring run is incomplete'
ok 'the service stops, and the monitoring run is complete'

dpkg --purge imdsmon >/dev/null 2>&1 || fail 'purge'
[ ! -e /var/lib/imdsmon ] || fail 'purge leaves the store'
ok 'purge removes everything'
finish pass
