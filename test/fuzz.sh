#!/usr/bin/env bash
# Runs every fuzz target of the module for a while each: test/fuzz.sh DURATION, such as 30s.
set -euo pipefail
cd "$(dirname "$0")/.."
duration=${1:?usage: test/fuzz.sh DURATION}
found=0
for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
    tests=$(go test -list '^Fuzz' "$package")
    for target in $(grep '^Fuzz' <<<"$tests" || true); do
        found=$((found + 1))
        echo "$package $target"
        go test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" "$package" </dev/null
    done
done
if [ "$found" = 0 ]; then
    echo "no fuzz target was found" >&2
    exit 1
fi
echo "$found fuzz targets ran for $duration each"
