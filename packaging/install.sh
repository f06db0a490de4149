#!/bin/sh
# Installs Drover from the folder this script lies in, or replaces the version that is there. Changes nothing before it
# knows that this host has what Drover needs. Containers, the engine and the node's data are never touched.
set -eu

PREFIX=/opt/drover
BIN=/usr/local/bin
PLUGIN=/usr/local/lib/docker/cli-plugins/docker-drover
UNIT=/etc/systemd/system/droverd.service
source=$(dirname "$(readlink -f "$0")")

usage() {
  cat <<END
Usage:  ./install.sh [--no-start]

Installs Drover into $PREFIX, with $BIN/droverd, $BIN/drover, the plugin "docker drover" and, where systemd
runs, the unit droverd.service. Installed over an older version, it replaces that one and restarts droverd.

      --no-start   Install, but start or restart nothing
END
}

say() { printf 'drover: %s\n' "$*"; }
fail() { printf 'drover: %s\n' "$*" >&2; exit 1; }

start=yes
for word in "$@"; do
  case $word in
    --no-start) start=no ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; exit 125 ;;
  esac
done

# Programs that droverd calls, and the Debian package of each.
check_programs() {
  # Administrators' folders are not on every user's PATH.
  PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
  programs='' packages=''
  while read -r program package; do
    command -v "$program" >/dev/null || { programs="$programs $program" packages="$packages $package"; }
  done <<END
dockerd docker.io
nft nftables
ip iproute2
bridge iproute2
iptables iptables
conntrack conntrack
nsenter util-linux
END
  [ -z "$programs" ] || fail "not installed:$programs
On Debian: apt-get install$(printf '%s\n' $packages | sort -u | sed 's/^/ /' | tr -d '\n')
(Docker's own packages, docker-ce, are as good as docker.io.) Nothing was changed."
}

# What stands where a link is to go must be a link, or nothing.
check_link() {
  [ ! -e "$1" ] || [ -L "$1" ] || fail "$1 is there already and is not Drover's; move it away first. Nothing was changed."
}

[ "$(uname -sm)" = 'Linux x86_64' ] || fail "this bundle is for Linux on x86_64, and this is $(uname -sm)"
[ "$(id -u)" = 0 ] || fail 'installing needs root: sudo ./install.sh'
[ "$source" != "$PREFIX" ] || fail "$PREFIX is what is installed already; run install.sh of an unpacked bundle"
[ ! -e "$PREFIX" ] || [ -x "$PREFIX/bin/droverd" ] || fail "$PREFIX is there already and is not Drover's; move it away first. Nothing was changed."
check_programs
for link in "$BIN/droverd" "$BIN/drover" "$PLUGIN"; do check_link "$link"; done
"$source/bin/droverd" --validate >/dev/null || fail 'this version does not run here, or not with the settings in /etc/drover (above is why). Nothing was changed.'

# Whole or not at all: the new version stands complete beside the old one before it takes its place. A droverd that runs has
# its code in memory.
rm -rf "$PREFIX.new" "$PREFIX.old"
mkdir -p "$(dirname "$PREFIX")"
cp -R "$source" "$PREFIX.new"
chown -R 0:0 "$PREFIX.new"
[ ! -e "$PREFIX" ] || mv "$PREFIX" "$PREFIX.old"
mv "$PREFIX.new" "$PREFIX"
rm -rf "$PREFIX.old"

mkdir -p "$BIN" "$(dirname "$PLUGIN")"
ln -sfn "$PREFIX/bin/droverd" "$BIN/droverd"
ln -sfn "$PREFIX/bin/drover" "$BIN/drover"
ln -sfn "$PREFIX/bin/drover" "$PLUGIN"
say "$("$BIN/droverd" --version) is installed in $PREFIX"

if [ -d "$(dirname "$UNIT")" ]; then
  install -m 644 "$PREFIX/droverd.service" "$UNIT"
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  if [ "$start" = yes ]; then
    systemctl enable --quiet droverd.service
    systemctl restart droverd.service
    say 'droverd runs; see: systemctl status droverd'
  else
    say 'start it with: systemctl enable --now droverd'
  fi
else
  say "no systemd runs here; let your init system start and keep alive: $BIN/droverd"
fi
say "point docker at it with: docker context create drover --docker host=unix:///run/drover/drover.sock && docker context use drover"
