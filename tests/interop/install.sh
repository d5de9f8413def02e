#!/usr/bin/env bash
# Installs what `make interop` needs beside the Python packages: Prometheus, h2load and Node from Debian, packages from npm.
set -euo pipefail
cd "$(dirname "$0")"

declare -A package_of=([prometheus]=prometheus [promtool]=prometheus [h2load]=nghttp2-client [node]=nodejs [npm]=npm)
missing=()
for program in "${!package_of[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package_of[$program]}")
done

if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "make interop needs programs that are not here, and may not install them (that takes root and apt-get)." >&2
        echo "On Debian or Ubuntu: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    # The package starts a Prometheus of its own on port 9090: only the program is wanted.
    if [[ " ${missing[*]} " == *" prometheus "* ]] && [ -d /run/systemd/system ]; then
        systemctl disable --now --quiet prometheus
    fi
fi

if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
    npm ci --silent
    touch node_modules/.package-lock.json
fi
