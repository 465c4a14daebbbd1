#!/usr/bin/env bash
# How a build grows with the number of objects: synthesized meshes, small pictures; time a row should stay, memory too.
# Usage: benches/growth.sh TAP [COUNT...]      (default: 100 1000 10000)
set -euo pipefail
tap=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- 100 1000 10000
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
classes=10
printf 'objects   wall s    CPU s   CPU ms an object   memory MiB   manifest KiB   shards\n'
for count; do
    "$tap" dataset synthesize --out "meshes-$count" --classes "$classes" --per-class $((count / classes)) >/dev/null
    "$tap" dataset build "meshes-$count" --out "shards-$count" --backend cpu --size 32 --num-points 256 --sampler uniform \
        --max-skipped "$count" --timings --json 2>/dev/null >result.json
    manifest=$(($(stat -c %s "shards-$count/manifest.json") / 1024))
    python3 - "$count" "$manifest" <<'PYTHON'
import json, sys
count, manifest = int(sys.argv[1]), int(sys.argv[2])
result = json.load(open("result.json"))
timings = result["timings"]
memory = (timings["peak_memory_bytes"] or 0) / 2**20
cpu = timings["cpu_s"]
print(f"{count:7} {timings['wall_s']:8.2f} {cpu:8.2f} {1000 * cpu / count:18.2f} {memory:12.0f} {manifest:14} {result['num_shards']:8}", flush=True)
PYTHON
    rm -rf "meshes-$count" "shards-$count"
done
