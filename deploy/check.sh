#!/bin/sh
# Holds the units against systemd (Debian's package systemd, 252 or later) and against the daemons' own
# names. Needs no rights and changes nothing. Exit status 1 if something is wrong.
set -eu
here=$(CDPATH='' cd -- "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong=0
complain() { echo "deploy: $*" >&2; wrong=1; }

# systemd asks whether the programs exist.
mkdir "$work/bin" "$work/units"
cp -r "$here/systemd/." "$work/units"
for daemon in smtpd queued localdeliver remotedeliver pop3d imapd directoryd; do
    [ -f "$work/units/correo-$daemon.service" ] || complain "no unit for $daemon"
    printf '#!/bin/sh\n' > "$work/bin/$daemon"
    chmod +x "$work/bin/$daemon"
done
sed -i "s#/usr/libexec/correo/#$work/bin/#" "$work"/units/*.service

if command -v systemd-analyze >/dev/null; then
    export SYSTEMD_UNIT_PATH="$work/units:"
    systemd-analyze verify --man=no "$work"/units/*.service "$work"/units/*.socket \
        "$work"/units/correo.target || complain "systemd-analyze verify"
    for unit in "$work"/units/*.service; do
        # Tenths; 1.6 is remotedeliver's, which needs the network.
        systemd-analyze security --offline=true --threshold=16 --no-pager "$unit" >/dev/null ||
            complain "$(basename "$unit") may do too much: systemd-analyze security --offline=true"
    done
else
    echo "deploy: left out, since systemd-analyze is not here: apt-get install systemd" >&2
fi

# Each socket of the configuration has a unit, and each unit a user and group that exist.
for socket in $(sed -n 's/^#.* = "unix:\(.*\)\.sock"$/\1/p' "$here/etc/correo.toml"); do
    unit="$here/systemd/correo-$socket.socket"
    [ -f "$unit" ] || { complain "no unit for $socket.sock"; continue; }
    grep -qx "FileDescriptorName=$socket" "$unit" || complain "$unit: FileDescriptorName"
    grep -qx "ListenStream=/run/correo/$socket.sock" "$unit" || complain "$unit: ListenStream"
done
for name in $(sed -n 's/^\(User\|Group\|SupplementaryGroups\|SocketUser\|SocketGroup\)=//p' \
    "$here"/systemd/*.service "$here"/systemd/*.socket | tr ' ' '\n' | sort -u); do
    grep -q "^[ug] $name " "$here/systemd/sysusers.conf" || complain "sysusers.conf lacks $name"
    grep -q "\(user\|group\) $name [0-9]" "$here/container/layout.sh" || complain "layout.sh lacks $name"
done
# Each socket unit is named by its service.
for unit in "$here"/systemd/*.socket; do
    service=$(sed -n 's/^Service=//p' "$unit")
    grep -q "^Sockets=.*$(basename "$unit")" "$here/systemd/$service" ||
        complain "$service does not name $(basename "$unit")"
done
exit "$wrong"
