#!/usr/bin/env bash
# Bring Prometheus, and PostgreSQL where this machine has none, from Debian's packages into a folder (default: .services).
# The packages are unpacked, not installed: no root, no install script and no daemon is needed, and what is there stays.
set -euo pipefail
cd "$(dirname "$0")/../.."
into=${1:-.services}
installed=/usr/lib/postgresql/15/bin/postgres
mkdir -p "$into"
into=$(cd "$into" && pwd)

# The lists of packages are the machine's where it has some, else our own: as an ordinary user one cannot renew those.
apt=(-q -o APT::Sandbox::User=root)
ours=("${apt[@]}" -o Dir::State::Lists="$into/lists" -o Dir::Cache="$into/cache" -o Debug::NoLocking=1)

renewed() {
    [ "${apt[*]}" = "${ours[*]}" ] && return 1
    mkdir -p "$into/lists/partial" "$into/cache/archives/partial"
    apt=("${ours[@]}")
    apt-get "${apt[@]}" update >"$into/apt.log" 2>&1 || { cat "$into/apt.log" >&2; exit 3; }
}

# The packages that a package needs and this machine lacks, itself included, but for what only its install scripts need.
lacking() {
    apt-get "${apt[@]}" install --simulate --no-install-recommends "$1" 2>/dev/null |
        awk -v name="$1" '$1 == "Inst" && ($2 == name || $2 ~ /^lib/) {print $2}'
}

unpacked() {
    local folder
    folder=$(mktemp -d "$into/download.XXXX")
    (cd "$folder" && apt-get "${apt[@]}" download "$@" >apt.log 2>&1) || { cat "$folder/apt.log" >&2; rm -r "$folder"; return 1; }
    for file in "$folder"/*.deb; do dpkg -x "$file" "$into"; done
    rm -r "$folder"
}

# Twice: old lists of packages may name versions that are gone.
brought() {
    local names
    for _ in 1 2; do
        names=$("$@")
        # shellcheck disable=SC2086
        if [ -n "$names" ] && unpacked $names; then return 0; fi
        renewed || break
    done
    echo "Debian's packages for '$*' could not be had; the lines above say why." >&2
    return 3
}

if [ ! -x "$into/usr/bin/prometheus" ]; then
    echo "Unpacking Prometheus into $into"
    brought echo prometheus
fi
if [ -z "${RAYLINE_UNPACK_POSTGRESQL:-}" ] && [ -x "$installed" ]; then exit 0; fi
if [ ! -x "$into$installed" ]; then
    echo "Unpacking PostgreSQL into $into"
    if [ -x "$installed" ]; then brought echo postgresql-15 libpq5; else brought lacking postgresql-15; fi
fi
