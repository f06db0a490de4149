#!/bin/sh
# Removes what install.sh put on this host. The node's data in /var/lib/drover and the settings in /etc/drover stay.
set -eu

PREFIX=/opt/drover
BIN=/usr/local/bin
PLUGIN=/usr/local/lib/docker/cli-plugins/docker-drover
UNIT=/etc/systemd/system/droverd.service
DATA=/var/lib/drover

fail() { printf 'drover: %s\n' "$*" >&2; exit 1; }

# In a function, because the shell reads this file while it runs, and the file goes with the rest.
main() {
  force=no
  for word in "$@"; do
    case $word in
      --force) force=yes ;;
      *) printf 'Usage:  %s/uninstall.sh [--force]\n\n      --force   Although this node is part of a swarm: its containers, rules and resolver stay as they are\n' "$PREFIX" >&2; exit 125 ;;
    esac
  done
  [ "$(id -u)" = 0 ] || fail 'uninstalling needs root'
  if [ -e "$DATA/cluster.json" ] && [ "$force" = no ]; then
    fail 'this node is part of a swarm: let it leave first (docker swarm leave), or give --force. Nothing was changed.'
  fi
  if [ -d /run/systemd/system ] && [ -e "$UNIT" ]; then systemctl disable --quiet --now droverd.service; fi
  rm -f "$UNIT"
  if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
  for link in "$BIN/droverd" "$BIN/drover" "$PLUGIN"; do
    case $(readlink "$link" || true) in "$PREFIX"/*) rm "$link" ;; esac
  done
  rm -rf "$PREFIX"
  printf 'drover: removed. Its data is still in %s, its settings in /etc/drover.\n' "$DATA"
  exit 0
}
main "$@"
