#!/bin/sh
# Hosts on one machine: network namespaces node-a to node-e with the addresses 10.10.10.11 to 10.10.10.15, on one bridge.
# This machine is 10.10.10.1 on it. Needs root and iproute2.
set -eu

usage() {
  cat >&2 <<'TEXT'
hosts.sh up               make the hosts
hosts.sh down             end what runs on them, and remove them
hosts.sh in NODE WORD...  run a command on a host
hosts.sh cut NODE...      put hosts onto a network of their own
hosts.sh heal             put all hosts onto one network again
TEXT
  exit 2
}

NODES="a b c d e"

up() {
  ip link add hosts type bridge
  ip link add hosts-cut type bridge
  ip address add 10.10.10.1/24 dev hosts
  ip link set hosts up
  ip link set hosts-cut up
  number=11
  for node in $NODES; do
    ip netns add "node-$node"
    ip link add "host-$node" type veth peer name eth0 netns "node-$node"
    ip link set "host-$node" master hosts up
    ip -n "node-$node" link set lo up
    ip -n "node-$node" address add "10.10.10.$number/24" dev eth0
    ip -n "node-$node" link set eth0 up
    number=$((number + 1))
  done
}

down() {
  for node in $NODES; do
    for process in $(ip netns pids "node-$node" 2>/dev/null); do
      kill -9 "$process" 2>/dev/null || true
    done
    ip netns delete "node-$node" 2>/dev/null || true
  done
  ip link delete hosts 2>/dev/null || true
  ip link delete hosts-cut 2>/dev/null || true
}

[ $# -gt 0 ] || usage
word=$1
shift
case "$word" in
up) up ;;
down) down ;;
in)
  [ $# -gt 1 ] || usage
  node=$1
  shift
  exec ip netns exec "$node" "$@"
  ;;
cut) for node in "$@"; do ip link set "host-${node#node-}" master hosts-cut; done ;;
heal) for node in $NODES; do ip link set "host-$node" master hosts; done ;;
*) usage ;;
esac
