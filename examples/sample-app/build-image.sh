#!/bin/sh
# Builds the sample app as a static binary, and an image that holds nothing else.
#
#   build-image.sh TAG [VERSION]     HEALTHCHECK=1 gives the image a HEALTHCHECK
#
# VERSION is what the app calls itself (X-Version); it defaults to the tag's part after the colon.
set -eu

[ "${HEALTHCHECK:-0}" = 1 ] && export STAGE=checked
exec "$(dirname "$0")/../build-image.sh" sample-app "$@"
