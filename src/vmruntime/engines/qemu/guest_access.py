"""Letting somebody into a Linux guest: accounts, keys and passwords, set by way of the guest agent.

Programs are run with a list of arguments, and what they are told is never part of a shell's text. What is done to an
account's own files is done as that account: its owner decides what lies there, also where a symbolic link leads.

An entry of authorized_keys carries its end (`expiry-time`, OpenSSH 7.7): it holds no longer, even if the guest is off
or nobody is there to remove it by then. The time is written in the guest's own time zone, which older servers want.
"""

from __future__ import annotations

import base64

from vmruntime.engines.machine import GuestKey
from vmruntime.engines.qemu.guest_agent import Agent

_SHELL = "/bin/sh"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C"

# $1 user. A new account gets a password that matches nothing: locked, it would keep keys out as well.
_ACCOUNT = f"""\
set -eu
export {_PATH}
if ! id -u "$1" >/dev/null 2>&1; then
    shell=/bin/sh
    [ ! -x /bin/bash ] || shell=/bin/bash
    if command -v useradd >/dev/null; then useradd -m -s "$shell" -p '*' "$1"; else adduser -D -s "$shell" "$1"; fi
fi
"""

# As the account: $1 mark, $2 the entry with the mark at its end; none to remove it.
_ENTRY = """\
set -eu
umask 077
cd "$HOME"
file=.ssh/authorized_keys
if [ -n "${2-}" ]; then
    mkdir -p .ssh
    chmod 700 .ssh
elif ! grep -q -F -e "$1" "$file" 2>/dev/null; then
    exit 0
fi
new=$file.$$
trap 'rm -f "$new"' EXIT
: > "$new"
[ ! -f "$file" ] || grep -v -F -e "$1" "$file" > "$new" || [ $? = 1 ]
[ -z "${2-}" ] || printf '%s\\n' "$2" >> "$new"
chmod 600 "$new"
mv -f "$new" "$file"
"""

# $1 user, $2 mark, $3 key, $4 its end in seconds since 1970, $5 what is done as the account.
_GRANT = f"""\
{_ACCOUNT}
until=$(date -d "@$4" +%Y%m%d%H%M%S)
exec su -s /bin/sh -c "$5" "$1" vm-runtime "$2" "expiry-time=\\"$until\\" $3 $2"
"""

_REVOKE = f"""\
set -eu
export {_PATH}
id -u "$1" >/dev/null 2>&1 || exit 0
exec su -s /bin/sh -c "$3" "$1" vm-runtime "$2"
"""


async def grant(agent: Agent, access: GuestKey) -> None:
    """Make the account if it is missing, and put the key into its authorized_keys. Repeating it changes nothing."""
    await _run(agent, _GRANT, access.user, access.mark, access.key, str(access.expires), _ENTRY)


async def revoke(agent: Agent, access: GuestKey) -> None:
    """Take the key out again, if it is there."""
    await _run(agent, _REVOKE, access.user, access.mark, _ENTRY)


async def set_password(agent: Agent, user: str, password: str, *, may_create: bool) -> None:
    """Give the account this password; `may_create`: make it (in a Linux guest) if it is missing."""
    if may_create:
        await _run(agent, _ACCOUNT, user)
    encoded = base64.b64encode(password.encode()).decode()
    await agent.execute("guest-set-user-password", {"username": user, "password": encoded, "crypted": False})


async def _run(agent: Agent, script: str, *arguments: str) -> None:
    await agent.run(_SHELL, ["-c", script, "vm-runtime", *arguments])
