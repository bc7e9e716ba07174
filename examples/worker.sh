#!/bin/sh
# SPDX-License-Identifier: MIT
while read -r line; do # nanoq work --stream -- examples/worker.sh
    id=${line#*'"id":'}; id=${id%%,*}
    payload=${line#*'"payload":'}; payload=${payload%\}}
    case $payload in
    *'"to"'*) echo "hello, $payload" >&2; echo "{\"done\": $id}" ;;
    *) echo "{\"discard\": $id, \"error\": \"nobody to greet\"}" ;;
    esac
done
