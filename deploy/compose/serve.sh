#!/bin/bash
# A Ray node that serves: the demo's model is trained on the cluster if there is none, then deployed.
set -euo pipefail
ray start --address=head:6379 --num-cpus=2 --object-store-memory=1600000000 --metrics-export-port=8080
export RAY_API_SERVER_ADDRESS=http://head:8265 RAY_DASHBOARD_ADDRESS=http://head:8265
if ! test -e /mnt/mats/demo/model/config.json; then
    ray job submit -- mats demo --config /home/ray/mats/configs/toy.yaml --no-compare --set output_dir=/mnt/mats/demo
fi
serve deploy /home/ray/mats/deploy/compose/service.yaml
# The container ends with its raylet.
while python /home/ray/mats/deploy/compose/healthy.py; do sleep 15; done
exit 1
