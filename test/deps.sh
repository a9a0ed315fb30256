#!/usr/bin/env bash
# Makes sure that what is named is installed: by apt where it is missing and allowed (as root, or by sudo without a
# password), on Debian and Ubuntu. Otherwise it says what to install and fails.
#
#   test/deps.sh [go] [gcc] [redis] [postgres] [pgbouncer] [nutcracker] [haproxy] \
#     [node] [python3-redis] [php-redis] [ruby-redis]
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# check_go compares the Go that would build this module with the version in go.mod. Run inside a module, a Go since 1.21 that
# is too old turns into the right one, unless GOTOOLCHAIN forbids it or it cannot be fetched.
check_go() {
    local want have
    want=$(awk '$1 == "go" { print $2 }' go.mod)
    command -v go >/dev/null || fail "Go is not installed: this needs Go $want or newer, see https://go.dev/doc/install"
    have=$({ go version 2>/dev/null || GOTOOLCHAIN=local go version; } | sed -nE 's/^go version go([0-9]+(\.[0-9]+)*).*/\1/p')
    # go1.26 stands for any 1.26.
    if [ "$(printf '%s\n%s\n' "$want" "${have:-0}.999" | sort -V | head -n 1)" != "$want" ]; then
        fail "Go ${have:-of an unknown version} is too old: this needs Go $want or newer, see https://go.dev/doc/install"
    fi
}

# present says whether a dependency is there; package names what Debian and Ubuntu call it.
present() {
    case $1 in
    gcc) command -v gcc >/dev/null && gcc -E -x c - <<<'#include <stdlib.h>' >/dev/null 2>&1 ;;
    redis) command -v redis-server >/dev/null && command -v redis-cli >/dev/null && command -v redis-benchmark >/dev/null ;;
    postgres)
        local program
        for program in initdb postgres pgbench; do
            compgen -G "/usr/lib/postgresql/*/bin/$program" >/dev/null || command -v "$program" >/dev/null || return 1
        done
        ;;
    pgbouncer | nutcracker | haproxy) PATH=$PATH:/usr/sbin command -v "$1" >/dev/null ;;
    node) command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' ;;
    python3-redis) /usr/bin/python3 -c 'import redis' 2>/dev/null ;; # the interpreter for which Debian installs it
    php-redis) command -v php >/dev/null && php -r 'exit(extension_loaded("redis") ? 0 : 1);' ;;
    ruby-redis) command -v ruby >/dev/null && ruby -e 'require "redis"' 2>/dev/null ;;
    *) fail "$0: what is $1?" ;;
    esac
}

packages() {
    case $1 in
    gcc) echo gcc libc6-dev ;;
    redis) echo redis-server redis-tools ;;
    postgres) echo postgresql ;;
    node) echo nodejs npm ;;
    php-redis) echo php-cli php-redis ;;
    *) echo "$1" ;;
    esac
}

# install installs packages without letting them start servers of their own: those would sit on the standard ports and burn
# memory for nothing. What stood there before is put back.
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.conf
made_policy=
saved_clusters=
restore() {
    [ -z "$made_policy" ] || rm -f "$policy"
    [ -z "$saved_clusters" ] || mv -f "$saved_clusters" "$clusters"
}
install() {
    export DEBIAN_FRONTEND=noninteractive
    local apt=(apt-get -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold)

    trap restore EXIT
    trap 'exit 1' INT TERM

    if [ ! -e "$policy" ]; then
        made_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    "${apt[@]}" update
    if [[ " $* " == *" postgresql "* ]]; then
        "${apt[@]}" install postgresql-common
        cp -p "$clusters" "$clusters.saved"
        saved_clusters=$clusters.saved
        echo 'create_main_cluster = false' >>"$clusters"
    fi
    "${apt[@]}" install "$@"
}

if [ "${1:-}" = --install ]; then # as root, from below
    shift
    install "$@"
    exit
fi

missing=()
for name in "$@"; do
    if [ "$name" = go ]; then
        check_go
    elif ! present "$name"; then
        read -ra names <<<"$(packages "$name")"
        missing+=("${names[@]}")
    fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
if ! command -v apt-get >/dev/null; then
    fail "Not installed, and there is no apt-get to install them by: ${missing[*]} (as Debian calls them)."
elif ! "${as_root[@]}" true 2>/dev/null; then
    fail "Not installed, and only root may install them. Please run:" "  sudo apt-get install ${missing[*]}"
fi
echo "installing ${missing[*]}"
"${as_root[@]}" "$PWD/test/deps.sh" --install "${missing[@]}"
for name in "$@"; do
    [ "$name" = go ] || present "$name" || fail "$name is missing still, though ${missing[*]} were installed"
done
