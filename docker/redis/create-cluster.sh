#!/bin/sh
# Makes a Cluster of the servers in REDIS_NODES ("host:port host:port …", masters first), or finds that it is one.
# Can be run again: servers that came back at another address are introduced to each other anew.
set -eu
export REDISCLI_AUTH="$REDIS_PASSWORD"

ping() {
    redis-cli -h "${1%:*}" -p "${1##*:}" PING 2>/dev/null || true
}

first=${REDIS_NODES%% *}
addresses=""
for node in $REDIS_NODES; do
    until [ "$(ping "$node")" = PONG ]; do sleep 0.2; done
    # Servers are introduced by address: they do not look up names.
    addresses="$addresses $(getent hosts "${node%:*}" | awk '{ print $1; exit }'):${node##*:}"
done

tell() {
    redis-cli -h "${first%:*}" -p "${first##*:}" CLUSTER "$@" | tr -d '\r'
}

if tell INFO | grep -q '^cluster_slots_assigned:0$'; then
    # shellcheck disable=SC2086 # a list of addresses
    redis-cli --cluster create $addresses --cluster-replicas 1 --cluster-yes
else
    for address in $addresses; do
        tell NODES | grep " $address@" | grep -q ' connected' || tell MEET "${address%:*}" "${address##*:}"
    done
fi
# Half of them are replicas, and everybody is there.
set -- $REDIS_NODES
until tell INFO | grep -q '^cluster_state:ok$' \
    && [ "$(tell NODES | grep -c ' connected')" -eq $# ] \
    && [ "$(tell NODES | grep -c 'slave ')" -eq $(($# / 2)) ]; do
    sleep 0.2
done
echo "the Cluster is up"
