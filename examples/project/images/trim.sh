#!/bin/sh
# Takes out of an image what nobody reads in one: caches, translations, manuals. Licences (/usr/share/doc/*/copyright) stay.
set -eu
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/*.log /var/log/apt
find /usr/share/locale /usr/share/man /usr/share/info -mindepth 1 -delete 2>/dev/null || true
find /usr/share/doc -type f ! -name 'copyright*' -delete
find /usr/share/doc -type d -empty -delete
