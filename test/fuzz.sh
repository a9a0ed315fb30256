#!/usr/bin/env bash
# Runs every fuzz target of the module for a while each: test/fuzz.sh DURATION, such as 30s.
set -euo pipefail
cd "$(dirname "$0")/.."
duration=${1:?usage: test/fuzz.sh DURATION}
found=0
while read -r package; do
    while read -r target; do
        found=$((found + 1))
        echo "$package $target"
        go test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" "$package" </dev/null
    done < <(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true)
done < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...)
if [ "$found" = 0 ]; then
    echo "no fuzz target was found" >&2
    exit 1
fi
echo "$found fuzz targets ran for $duration each"
